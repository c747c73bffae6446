/* Measures ONNX models with ONNX Runtime's C interface; needs a C library and libonnxruntime.so, and no Python.
 *
 * usage: runner LIBRARY THREADS WARMUP BLOCKS RUNS PREFIX (MODEL FEED OUTPUT)...
 *
 * All sessions are open at once and take turns, RUNS runs a block. FEED holds the inputs, OUTPUT receives the outputs
 * of the last run ("-": nowhere), both as `tensors.py` lays them out. With another PREFIX than "-" the runtime's own
 * profile of all runs of model N is written to a file that begins with PREFIX, N and a dash. One line of JSON goes to
 * standard output.
 *
 * Built with -DCOUNTED it has no time at all: the clock of this process, the runtime's included, stands at the number
 * of instructions executed so far, one a microsecond, as the plugin `instructions.c` tells it. A model that takes more
 * than PLENTY of them is run once to warm up and once to be counted: what differs between two runs does not show there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime_api.h"

#define MARK 0x5EED0000u
#define MOST 64
#define PLENTY 5e7
/* Calls an entry of the table that returns a status. */
#define TRY(stage, function, ...) check(stage, ((void *(*)())api[function])(__VA_ARGS__))

typedef struct {
    const char *path, *feed, *output;
    void *session, *inputs[MOST], *outputs[MOST];
    char *input_names[MOST], *output_names[MOST];
    size_t input_count, output_count;
    double load, *times;
    long before, peak;
    int ran;
} Model;

static void *const *api;
static int position;

static void say(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\' || c < ' ')
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void fail(const char *stage, const char *reason)
{
    printf("{\"error\": {\"position\": %d, \"stage\": \"%s\", \"reason\": ", position, stage);
    say(reason);
    printf("}}\n");
    fflush(stdout);
    _exit(0);
}

static void check(const char *stage, void *status)
{
    if (status)
        fail(stage, ((const char *(*)(void *))api[GetErrorMessage])(status));
}

#ifdef COUNTED
static volatile uint64_t *counter;

int clock_gettime(clockid_t clock, struct timespec *result)
{
    if (!counter)
        return (int)syscall(SYS_clock_gettime, clock, result);
    syscall(SYS_close, MARK);
    result->tv_sec = (time_t)(*counter / 1000000);
    result->tv_nsec = (long)(*counter % 1000000 * 1000);
    return 0;
}

static void start_counting(void)
{
    const char *path = getenv("COMPRESS_COUNTER");
    int file = path ? open(path, O_RDONLY) : -1;
    void *page = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *counter, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) {
        fprintf(stderr, "no instruction counter\n");
        exit(3);
    }
    close(file);
    counter = page;
}

/* What the runtime wants to do in the background is never done: it would be counted too, now and then. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument)
{
    (void)attributes, (void)function, (void)argument;
    *thread = pthread_self();
    return 0;
}

static int enough(double cost) { return cost > PLENTY; }
#else
static void start_counting(void) {}

static int enough(double cost) { return (void)cost, 0; }
#endif

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static long memory(const char *key)
{
    char line[256];
    long kilobytes = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, key, strlen(key)))
            sscanf(line + strlen(key), ": %ld", &kilobytes);
    if (file)
        fclose(file);
    return kilobytes;
}

static void take(FILE *file, void *target, size_t bytes)
{
    if (fread(target, 1, bytes, file) != bytes)
        fail("inputs", "the file of inputs is cut short");
}

static void *sized(size_t bytes)
{
    void *memory = calloc(1, bytes ? bytes : 1);
    if (!memory)
        fail("inputs", "no memory left");
    return memory;
}

static void read_feed(Model *model)
{
    void *info;
    FILE *file = fopen(model->feed, "rb");
    if (!file)
        fail("inputs", "the file of inputs cannot be read");
    TRY("inputs", CreateCpuMemoryInfo, 1, 0, &info);
    uint32_t count, length, type, rank;
    take(file, &count, sizeof count);
    if (count > MOST)
        fail("inputs", "it has too many inputs");
    for (model->input_count = 0; model->input_count < count; model->input_count++) {
        int64_t shape[MOST];
        uint64_t bytes;
        take(file, &length, sizeof length);
        char *name = model->input_names[model->input_count] = sized((size_t)length + 1);
        take(file, name, length);
        take(file, &type, sizeof type);
        take(file, &rank, sizeof rank);
        if (rank > MOST)
            fail("inputs", "an input has too many axes");
        take(file, shape, rank * sizeof *shape);
        take(file, &bytes, sizeof bytes);
        void *data = sized(bytes);
        take(file, data, bytes);
        TRY("inputs", CreateTensorWithDataAsOrtValue, info, data, (size_t)bytes, shape, (size_t)rank, (int)type,
            &model->inputs[model->input_count]);
    }
    fclose(file);
}

static void open_model(Model *model, void *environment, int threads, const char *prefix)
{
    void *options, *allocator;
    TRY("load", CreateSessionOptions, &options);
    TRY("load", SetIntraOpNumThreads, options, threads);
    TRY("load", SetInterOpNumThreads, options, 1);
    TRY("load", SetSessionLogSeverityLevel, options, 3);
    TRY("load", AddSessionConfigEntry, options, "session.intra_op.allow_spinning", "0");
    if (strcmp(prefix, "-")) {
        char path[4096];
        if (snprintf(path, sizeof path, "%s%d-", prefix, position) >= (int)sizeof path)
            fail("load", "the path of the profile is too long");
        TRY("load", EnableProfiling, options, path);
    }
    model->before = memory("VmRSS");
    double start = now();
    TRY("load", CreateSession, environment, model->path, options, &model->session);
    model->load = now() - start;
    TRY("load", GetAllocatorWithDefaultOptions, &allocator);
    TRY("load", SessionGetOutputCount, model->session, &model->output_count);
    if (model->output_count > MOST)
        fail("load", "it has too many outputs");
    for (size_t i = 0; i < model->output_count; i++)
        TRY("load", SessionGetOutputName, model->session, i, allocator, &model->output_names[i]);
    read_feed(model);
}

static double run(Model *model)
{
    for (size_t i = 0; i < model->output_count; i++) {
        if (model->outputs[i])
            ((void (*)(void *))api[ReleaseValue])(model->outputs[i]);
        model->outputs[i] = NULL;
    }
    double start = now();
    void *status = ((void *(*)(void *, void *, char **, void **, size_t, char **, size_t, void **))api[Run])(
        model->session, NULL, model->input_names, model->inputs, model->input_count, model->output_names,
        model->output_count, model->outputs);
    double taken = now() - start;
    check("run", status);
    return taken;
}

static size_t element_bytes(int type)
{
    static const unsigned char bytes[] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8, 8, 16, 2};
    return type > 0 && type < (int)sizeof bytes ? bytes[type] : 0;
}

static void write_outputs(Model *model)
{
    if (!strcmp(model->output, "-"))
        return;
    FILE *file = fopen(model->output, "wb");
    if (!file)
        fail("run", "the file of outputs cannot be written");
    uint32_t count = (uint32_t)model->output_count;
    fwrite(&count, sizeof count, 1, file);
    for (size_t i = 0; i < model->output_count; i++) {
        void *info, *data = NULL;
        int tensor = 0, type = 0;
        size_t rank = 0, elements = 0;
        int64_t shape[MOST];
        TRY("run", IsTensor, model->outputs[i], &tensor);
        if (tensor) {
            TRY("run", GetTensorTypeAndShape, model->outputs[i], &info);
            TRY("run", GetTensorElementType, info, &type);
            TRY("run", GetDimensionsCount, info, &rank);
            if (rank > MOST)
                fail("run", "an output has too many axes");
            TRY("run", GetDimensions, info, shape, rank);
            TRY("run", GetTensorShapeElementCount, info, &elements);
        }
        uint64_t bytes = elements * element_bytes(type);
        if (bytes)
            TRY("run", GetTensorMutableData, model->outputs[i], &data);
        uint32_t head[] = {(uint32_t)strlen(model->output_names[i])}, kind[] = {(uint32_t)type, (uint32_t)rank};
        fwrite(head, sizeof head, 1, file);
        fwrite(model->output_names[i], 1, head[0], file);
        fwrite(kind, sizeof kind, 1, file);
        fwrite(shape, sizeof *shape, rank, file);
        fwrite(&bytes, sizeof bytes, 1, file);
        if (bytes)
            fwrite(data, 1, bytes, file);
    }
    if (fclose(file))
        fail("run", "the file of outputs cannot be written");
}

static void report(const char *version, Model *models, int count, int blocks, int runs)
{
    printf("{\"runtime\": \"onnxruntime %s\", \"models\": [", version);
    for (int m = 0; m < count; m++) {
        Model *model = &models[m];
        printf("%s{\"load\": %.3f, \"before_kb\": %ld, \"peak_kb\": %ld, \"blocks\": [", m ? ", " : "", model->load,
               model->before, model->peak);
        for (int b = 0; b < blocks; b++) {
            printf("%s[", b ? ", " : "");
            for (int r = 0; r < model->ran; r++)
                printf("%s%.3f", r ? ", " : "", model->times[b * runs + r]);
            printf("]");
        }
        printf("]}");
    }
    printf("]}\n");
}

int main(int argc, char **argv)
{
    if (argc < 10 || (argc - 7) % 3) {
        fprintf(stderr, "usage: runner LIBRARY THREADS WARMUP BLOCKS RUNS PREFIX (MODEL FEED OUTPUT)...\n");
        return 2;
    }
    int threads = atoi(argv[2]), warmup = atoi(argv[3]), blocks = atoi(argv[4]), runs = atoi(argv[5]);
    int count = (argc - 7) / 3;
    /* What is measured is nobody else's business, and a log of it on disk would change what is counted. */
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
    void *library = dlopen(argv[1], RTLD_NOW), *environment, *allocator;
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 3;
    }
    const ApiBase *base = ((const ApiBase *(*)(void))dlsym(library, "OrtGetApiBase"))();
    api = base->get_api(API_VERSION);
    if (!api) {
        fprintf(stderr, "onnxruntime %s is too old\n", base->get_version());
        return 3;
    }
    Model *models = sized((size_t)count * sizeof *models);
    start_counting();
    TRY("load", CreateEnv, 3, "runner", &environment);
    for (position = 0; position < count; position++) {
        Model *model = &models[position];
        char **names = argv + 7 + 3 * position;
        model->path = names[0], model->feed = names[1], model->output = names[2];
        model->times = sized(sizeof(double) * (size_t)blocks * (size_t)runs);
        open_model(model, environment, threads, argv[6]);
    }
    for (position = 0; position < count; position++)
        for (int i = 0; i == 0 || i < warmup; i++)
            if (enough(run(&models[position])))
                break;
    for (int b = 0; b < blocks; b++)
        for (position = 0; position < count; position++) {
            Model *model = &models[position];
            double cost = 0;
            for (model->ran = 0; model->ran < runs && !enough(cost); model->ran++)
                cost = model->times[b * runs + model->ran] = run(model);
        }
    TRY("load", GetAllocatorWithDefaultOptions, &allocator);
    for (position = 0; position < count; position++) {
        char *name;
        models[position].peak = memory("VmHWM");
        write_outputs(&models[position]);
        if (strcmp(argv[6], "-"))
            TRY("run", SessionEndProfiling, models[position].session, allocator, &name);
    }
    report(base->get_version(), models, count, blocks, runs);
    fflush(stdout);
    /* Not return: the runtime would wait for what it believes to have started. */
    _exit(0);
}
