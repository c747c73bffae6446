/* What the runner needs of ONNX Runtime's C interface.
 *
 * The interface is a table of functions to which later versions only ever append: a place in it never changes, so a
 * runner that was built once works with every onnxruntime from 1.7 on, and no header has to be fetched. The names are
 * those of onnxruntime_c_api.h, in its order.
 */
#ifndef COMPRESS_RUNTIME_API_H
#define COMPRESS_RUNTIME_API_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    void *const *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} ApiBase;

enum {
    CreateStatus, GetErrorCode, GetErrorMessage, CreateEnv, CreateEnvWithCustomLogger, EnableTelemetryEvents,
    DisableTelemetryEvents, CreateSession, CreateSessionFromArray, Run, CreateSessionOptions,
    SetOptimizedModelFilePath, CloneSessionOptions, SetSessionExecutionMode, EnableProfiling, DisableProfiling,
    EnableMemPattern, DisableMemPattern, EnableCpuMemArena, DisableCpuMemArena, SetSessionLogId,
    SetSessionLogVerbosityLevel, SetSessionLogSeverityLevel, SetSessionGraphOptimizationLevel, SetIntraOpNumThreads,
    SetInterOpNumThreads, CreateCustomOpDomain, CustomOpDomain_Add, AddCustomOpDomain, RegisterCustomOpsLibrary,
    SessionGetInputCount, SessionGetOutputCount, SessionGetOverridableInitializerCount, SessionGetInputTypeInfo,
    SessionGetOutputTypeInfo, SessionGetOverridableInitializerTypeInfo, SessionGetInputName, SessionGetOutputName,
    SessionGetOverridableInitializerName, CreateRunOptions, RunOptionsSetRunLogVerbosityLevel,
    RunOptionsSetRunLogSeverityLevel, RunOptionsSetRunTag, RunOptionsGetRunLogVerbosityLevel,
    RunOptionsGetRunLogSeverityLevel, RunOptionsGetRunTag, RunOptionsSetTerminate, RunOptionsUnsetTerminate,
    CreateTensorAsOrtValue, CreateTensorWithDataAsOrtValue, IsTensor, GetTensorMutableData, FillStringTensor,
    GetStringTensorDataLength, GetStringTensorContent, CastTypeInfoToTensorInfo, GetOnnxTypeFromTypeInfo,
    CreateTensorTypeAndShapeInfo, SetTensorElementType, SetDimensions, GetTensorElementType, GetDimensionsCount,
    GetDimensions, GetSymbolicDimensions, GetTensorShapeElementCount, GetTensorTypeAndShape, GetTypeInfo, GetValueType,
    CreateMemoryInfo, CreateCpuMemoryInfo, CompareMemoryInfo, MemoryInfoGetName, MemoryInfoGetId, MemoryInfoGetMemType,
    MemoryInfoGetType, AllocatorAlloc, AllocatorFree, AllocatorGetInfo, GetAllocatorWithDefaultOptions,
    AddFreeDimensionOverride, GetValue, GetValueCount, CreateValue, CreateOpaqueValue, GetOpaqueValue,
    KernelInfoGetAttribute_float, KernelInfoGetAttribute_int64, KernelInfoGetAttribute_string,
    KernelContext_GetInputCount, KernelContext_GetOutputCount, KernelContext_GetInput, KernelContext_GetOutput,
    ReleaseEnv, ReleaseStatus, ReleaseMemoryInfo, ReleaseSession, ReleaseValue, ReleaseRunOptions, ReleaseTypeInfo,
    ReleaseTensorTypeAndShapeInfo, ReleaseSessionOptions, ReleaseCustomOpDomain, GetDenotationFromTypeInfo,
    CastTypeInfoToMapTypeInfo, CastTypeInfoToSequenceTypeInfo, GetMapKeyType, GetMapValueType, GetSequenceElementType,
    ReleaseMapTypeInfo, ReleaseSequenceTypeInfo, SessionEndProfiling, SessionGetModelMetadata,
    ModelMetadataGetProducerName, ModelMetadataGetGraphName, ModelMetadataGetDomain, ModelMetadataGetDescription,
    ModelMetadataLookupCustomMetadataMap, ModelMetadataGetVersion, ReleaseModelMetadata,
    CreateEnvWithGlobalThreadPools, DisablePerSessionThreads, CreateThreadingOptions, ReleaseThreadingOptions,
    ModelMetadataGetCustomMetadataMapKeys, AddFreeDimensionOverrideByName, GetAvailableProviders,
    ReleaseAvailableProviders, GetStringTensorElementLength, GetStringTensorElement, FillStringTensorElement,
    AddSessionConfigEntry
};

#define API_VERSION 7

#endif
