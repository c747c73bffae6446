/* A QEMU plugin that gives a guest the number of its own executed instructions as a clock.
 *
 * Whenever the guest closes the descriptor MARK, which no program has open, the count so far is written to the first
 * eight bytes of the file that COMPRESS_COUNTER names; the guest has mapped the same file. The few declarations stand
 * here because distributions ship no qemu-plugin.h with qemu-user. QEMU 9 renamed what counts inline: build with
 * -DPLUGIN_API=2 from there on.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef PLUGIN_API
#define PLUGIN_API 1
#endif
#define EXPORT __attribute__((visibility("default")))
#define AARCH64_CLOSE 57
#define MARK 0x5EED0000u

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
typedef void (*translated)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*system_call)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                            uint64_t, uint64_t, uint64_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, system_call);

EXPORT int qemu_plugin_version = PLUGIN_API;
static volatile uint64_t *shared;

#if PLUGIN_API == 1
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
static uint64_t executed;
static void prepare(void) {}
static uint64_t count(unsigned cpu) { return (void)cpu, executed; }
static void add(struct qemu_plugin_tb *block, uint64_t instructions)
{
    qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &executed, instructions);
}
#else
typedef struct {
    struct qemu_plugin_scoreboard *score;
    size_t offset;
} qemu_plugin_u64;
extern struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t);
extern uint64_t qemu_plugin_u64_get(qemu_plugin_u64, unsigned);
extern void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *, int, qemu_plugin_u64, uint64_t);
static qemu_plugin_u64 executed;
static void prepare(void) { executed.score = qemu_plugin_scoreboard_new(sizeof(uint64_t)); }
static uint64_t count(unsigned cpu) { return qemu_plugin_u64_get(executed, cpu); }
static void add(struct qemu_plugin_tb *block, uint64_t instructions)
{
    qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(block, 0, executed, instructions);
}
#endif

static void on_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    add(block, qemu_plugin_tb_n_insns(block));
}

static void on_system_call(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t descriptor, uint64_t b,
                           uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == AARCH64_CLOSE && (uint32_t)descriptor == MARK)
        *shared = count(cpu);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info, (void)argc, (void)argv;
    const char *path = getenv("COMPRESS_COUNTER");
    int file = path ? open(path, O_RDWR) : -1;
    if (file < 0)
        return -1;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared == MAP_FAILED)
        return -1;
    prepare();
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
    qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
    return 0;
}
