/* A disk that forgets, for one process: LD_PRELOAD this into a server, and every change that it makes to files under a folder
 * is noted in undo journals until the server has synced it. After kill -9, flaredb-soak (src/disk/undo.rs) applies what is
 * left in the journals: the files then are as a power cut could have left them. On command it also fails, blocks or fakes
 * syncs and runs out of space.
 *
 * What it is not: it sees libc calls only (no io_uring, no raw syscalls, no mmap writes, no statically linked programs), makes
 * no folder disappear, and lets a sync cover exactly one file: stricter than ext4, as POSIX allows.
 *
 * FAULTY_DISK_ROOT     the folder
 * FAULTY_DISK_STATE    where the journals go: on the same file system, outside of the folder
 * FAULTY_DISK_CONTROL  a file of 8 numbers (u64): see the enum below
 *
 * Journals:  <state>/<inode>.undo   records: struct record, then `kept` old bytes; appended BEFORE the change is made
 *            <state>/meta           lines: C path | L path | U path backup | R from to backup-or-dash | S folder
 * Both outlive the process: what a killed process had not synced is still not durable in the next one.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { MAGIC, SYNC_MODE, WRITE_MODE, SPARE, WRITES, SYNCS, FAULTS, JOURNALLED, WORDS };
enum { SYNC_GOOD, SYNC_FAILS, SYNC_BLOCKS, SYNC_LIES };
enum { WRITE_GOOD, WRITE_FULL, WRITE_FAILS };

struct record {
    uint64_t magic, offset, length, old_size, kept;
};
#define RECORD_MAGIC 0x31304f444e554c46ULL
#define CONTROL_MAGIC 0x314b534944544c46ULL

/* One per inode. The lock is held over the journal record and the change, and over a whole sync: what a sync covers is clear. */
struct file {
    ino_t inode;
    int is_folder;
    int journal;
    pthread_mutex_t lock;
    char path[PATH_MAX];
    struct file *next;
};

#define FDS 65536
#define BUCKETS 1024
static struct file *by_fd[FDS];
static struct file *by_inode[BUCKETS];
static struct file not_ours;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t meta_lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], state[PATH_MAX];
static size_t root_length;
static int meta_journal = -1;
static volatile uint64_t *control;
static uint64_t backups;
static int on;

#define REAL(name) ((__typeof__(&name))real(#name, &real_##name))
#define DECLARE(name) static void *real_##name
DECLARE(open); DECLARE(write); DECLARE(pwrite64); DECLARE(writev); DECLARE(fsync); DECLARE(fdatasync); DECLARE(close);
DECLARE(ftruncate64); DECLARE(fallocate64); DECLARE(rename); DECLARE(unlink); DECLARE(link); DECLARE(statvfs64);
DECLARE(fstatvfs64); DECLARE(statfs64); DECLARE(fstatfs64); DECLARE(unlinkat); DECLARE(fclose); DECLARE(pwritev64);

static void *real(const char *name, void **slot) {
    if (!*slot) *slot = dlsym(RTLD_NEXT, name);
    if (!*slot) abort();
    return *slot;
}

static void die(const char *what) {
    dprintf(2, "faulty_disk: %s: %s\n", what, strerror(errno));
    _exit(97);
}

static void count(int word) {
    if (control) __atomic_fetch_add(&control[word], 1, __ATOMIC_RELAXED);
}

static uint64_t mode(int word) { return control ? __atomic_load_n(&control[word], __ATOMIC_RELAXED) : 0; }

/* The lines and records must be whole: a short write of ours would make the journal lie. */
static void append(int fd, const void *data, size_t length) {
    const char *at = data;
    while (length > 0) {
        ssize_t done = REAL(write)(fd, at, length);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) die("journal");
        at += done;
        length -= (size_t)done;
    }
}

__attribute__((constructor)) static void start(void) {
    const char *r = getenv("FAULTY_DISK_ROOT"), *s = getenv("FAULTY_DISK_STATE"), *c = getenv("FAULTY_DISK_CONTROL");
    if (!r || !s || !c) return;
    snprintf(root, sizeof root, "%s", r);
    snprintf(state, sizeof state, "%s", s);
    root_length = strlen(root);
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/meta", state);
    meta_journal = REAL(open)(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    if (meta_journal < 0) die(path);
    int fd = REAL(open)(c, O_RDWR | O_CLOEXEC);
    if (fd < 0) die(c);
    control = mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED || control[MAGIC] != CONTROL_MAGIC) die("control file");
    REAL(close)(fd);
    on = 1;
}

static int inside(const char *path) {
    return on && strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

/* Absolute, as the servers open their files; relative paths are made so by the current folder. */
static int absolute(const char *path, char out[PATH_MAX]) {
    if (path[0] == '/') return snprintf(out, PATH_MAX, "%s", path) < PATH_MAX;
    char here[PATH_MAX];
    if (!getcwd(here, sizeof here)) return 0;
    return snprintf(out, PATH_MAX, "%s/%s", here, path) < PATH_MAX;
}

static void note(const char *format, ...) {
    char line[3 * PATH_MAX + 16];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof line) die("meta journal");
    append(meta_journal, line, (size_t)length);
}

/* A second name for what a rename or unlink takes away, so that it can be brought back. */
static int backup(const char *path, char name[NAME_MAX]) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(name, NAME_MAX, "b%lld.%09ld.%llu", (long long)now.tv_sec, now.tv_nsec, (unsigned long long)backups++);
    char full[2 * PATH_MAX];
    snprintf(full, sizeof full, "%s/%s", state, name);
    return REAL(link)(path, full) == 0;
}

/* Which file an open descriptor is. Unknown ones (dup, fcntl, openat) are looked up in /proc once. */
static struct file *file_of(int fd) {
    if (!on || fd < 0 || fd >= FDS) return NULL;
    struct file *found = __atomic_load_n(&by_fd[fd], __ATOMIC_ACQUIRE);
    if (found) return found == &not_ours ? NULL : found;
    int saved = errno;
    char link_name[64], path[PATH_MAX];
    snprintf(link_name, sizeof link_name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link_name, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    struct stat stat_buffer;
    if (!inside(path) || fstat(fd, &stat_buffer) != 0 ||
        !(S_ISREG(stat_buffer.st_mode) || S_ISDIR(stat_buffer.st_mode))) {
        __atomic_store_n(&by_fd[fd], &not_ours, __ATOMIC_RELEASE);
        errno = saved;
        return NULL;
    }
    pthread_mutex_lock(&table_lock);
    struct file **bucket = &by_inode[stat_buffer.st_ino % BUCKETS];
    for (found = *bucket; found && found->inode != stat_buffer.st_ino; found = found->next) {}
    if (!found) {
        found = calloc(1, sizeof *found);
        if (!found) die("memory");
        found->inode = stat_buffer.st_ino;
        found->journal = -1;
        pthread_mutex_init(&found->lock, NULL);
        found->next = *bucket;
        *bucket = found;
    }
    found->is_folder = S_ISDIR(stat_buffer.st_mode);
    snprintf(found->path, sizeof found->path, "%s", path);
    __atomic_store_n(&by_fd[fd], found, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&table_lock);
    errno = saved;
    return found;
}

static void open_journal(struct file *file) {
    if (file->journal >= 0) return;
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%llu.undo", state, (unsigned long long)file->inode);
    file->journal = REAL(open)(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    if (file->journal < 0) die(path);
}

/* Notes what [offset, offset + length) holds now. The file's lock is held. */
static void remember(struct file *file, int fd, uint64_t offset, uint64_t length) {
    struct stat stat_buffer;
    if (fstat(fd, &stat_buffer) != 0) die("fstat");
    uint64_t size = (uint64_t)stat_buffer.st_size;
    uint64_t kept = offset >= size ? 0 : (offset + length > size ? size - offset : length);
    open_journal(file);
    struct record record = {RECORD_MAGIC, offset, length, size, kept};
    if (kept == 0) {
        append(file->journal, &record, sizeof record);
        return;
    }
    /* A descriptor of our own: theirs may be write-only. Not kept: the inode may be gone and its number reused. */
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    int reader = REAL(open)(name, O_RDONLY | O_CLOEXEC);
    if (reader < 0) die("reading old bytes");
    char *bytes = malloc(sizeof record + kept);
    if (!bytes) die("memory");
    memcpy(bytes, &record, sizeof record);
    uint64_t have = 0;
    while (have < kept) {
        ssize_t got = pread64(reader, bytes + sizeof record + have, kept - have, (off64_t)(offset + have));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) die("old bytes");
        have += (uint64_t)got;
    }
    append(file->journal, bytes, sizeof record + kept);
    if (control) __atomic_fetch_add(&control[JOURNALLED], kept, __ATOMIC_RELAXED);
    free(bytes);
    REAL(close)(reader);
}

/* 0: go on. Otherwise the errno with which the write fails. Overwriting needs no space. */
static int write_fault(int fd, uint64_t offset, uint64_t length) {
    uint64_t how = mode(WRITE_MODE);
    if (how == WRITE_GOOD) return 0;
    struct stat stat_buffer;
    if (how == WRITE_FULL && fstat(fd, &stat_buffer) == 0 && offset + length <= (uint64_t)stat_buffer.st_size) return 0;
    count(FAULTS);
    return how == WRITE_FULL ? ENOSPC : EIO;
}

static uint64_t position(int fd) {
    struct stat stat_buffer;
    if ((fcntl(fd, F_GETFL) & O_APPEND) && fstat(fd, &stat_buffer) == 0) return (uint64_t)stat_buffer.st_size;
    off64_t at = lseek64(fd, 0, SEEK_CUR);
    return at < 0 ? 0 : (uint64_t)at;
}

/* The frame of every change of a file's bytes. */
#define CHANGE(fd, offset, length, call)                       \
    do {                                                       \
        struct file *file = file_of(fd);                       \
        if (!file || file->is_folder) return call;             \
        pthread_mutex_lock(&file->lock);                       \
        uint64_t at = (offset), long_ = (length);              \
        int fault = write_fault(fd, at, long_);                \
        __typeof__(call) result = -1;                          \
        if (!fault) {                                          \
            remember(file, fd, at, long_);                     \
            count(WRITES);                                     \
            result = call;                                     \
        }                                                      \
        int saved = fault ? fault : errno;                     \
        pthread_mutex_unlock(&file->lock);                     \
        errno = saved;                                         \
        return result;                                         \
    } while (0)

static uint64_t total(const struct iovec *parts, int parts_count) {
    uint64_t sum = 0;
    for (int i = 0; i < parts_count; i++) sum += parts[i].iov_len;
    return sum;
}

ssize_t write(int fd, const void *data, size_t length) { CHANGE(fd, position(fd), length, REAL(write)(fd, data, length)); }

ssize_t writev(int fd, const struct iovec *parts, int n) { CHANGE(fd, position(fd), total(parts, n), REAL(writev)(fd, parts, n)); }

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    CHANGE(fd, (uint64_t)offset, length, REAL(pwrite64)(fd, data, length, offset));
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t pwritev64(int fd, const struct iovec *parts, int n, off64_t offset) {
    CHANGE(fd, (uint64_t)offset, total(parts, n), REAL(pwritev64)(fd, parts, n, offset));
}
ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t offset) { return pwritev64(fd, parts, n, offset); }

/* A cut takes away [length, size); growth takes away nothing but changes the size. */
static uint64_t cut_length(int fd, uint64_t length) {
    struct stat stat_buffer;
    if (fstat(fd, &stat_buffer) != 0) return 0;
    return (uint64_t)stat_buffer.st_size > length ? (uint64_t)stat_buffer.st_size - length : 0;
}

int ftruncate64(int fd, off64_t length) {
    CHANGE(fd, (uint64_t)length, cut_length(fd, (uint64_t)length), REAL(ftruncate64)(fd, length));
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fallocate64(int fd, int how, off64_t offset, off64_t length) {
    CHANGE(fd, (uint64_t)offset, (uint64_t)length, REAL(fallocate64)(fd, how, offset, length));
}
int fallocate(int fd, int how, off_t offset, off_t length) { return fallocate64(fd, how, offset, length); }
int posix_fallocate64(int fd, off64_t offset, off64_t length) { return fallocate64(fd, 0, offset, length) == 0 ? 0 : errno; }
int posix_fallocate(int fd, off_t offset, off_t length) { return posix_fallocate64(fd, offset, length); }

static int synced(int fd, int data_only) {
    struct file *file = file_of(fd);
    if (!file) return data_only ? REAL(fdatasync)(fd) : REAL(fsync)(fd);
    if (mode(SYNC_MODE) == SYNC_BLOCKS) {
        count(FAULTS);
        while (mode(SYNC_MODE) == SYNC_BLOCKS) usleep(5000);
    }
    count(SYNCS);
    if (mode(SYNC_MODE) == SYNC_FAILS) {
        count(FAULTS);
        errno = EIO;
        return -1;
    }
    if (mode(SYNC_MODE) == SYNC_LIES) {
        count(FAULTS);
        return 0;
    }
    pthread_mutex_lock(&file->lock);
    int result = data_only ? REAL(fdatasync)(fd) : REAL(fsync)(fd);
    int saved = errno;
    if (result == 0 && file->is_folder) {
        pthread_mutex_lock(&meta_lock);
        note("S\t%s\n", file->path);
        pthread_mutex_unlock(&meta_lock);
    } else if (result == 0) {
        open_journal(file);
        if (REAL(ftruncate64)(file->journal, 0) != 0) die("emptying a journal");
    }
    pthread_mutex_unlock(&file->lock);
    errno = saved;
    return result;
}
int fsync(int fd) { return synced(fd, 0); }
int fdatasync(int fd) { return synced(fd, 1); }

static int open_file(const char *path, int flags, mode_t access) {
    char full[PATH_MAX];
    if (!on || !absolute(path, full) || !inside(full)) return REAL(open)(path, flags, access);
    struct stat stat_buffer;
    int creates = (flags & O_CREAT) && lstat(full, &stat_buffer) != 0;
    if (creates && mode(WRITE_MODE) == WRITE_FULL) {
        count(FAULTS);
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(&meta_lock);
    if (creates) note("C\t%s\n", full);
    int cuts = (flags & O_TRUNC) && !creates;
    int fd = REAL(open)(path, flags & ~(cuts ? O_TRUNC : 0), access);
    int saved = errno;
    pthread_mutex_unlock(&meta_lock);
    if (fd >= 0 && fd < FDS) {
        __atomic_store_n(&by_fd[fd], NULL, __ATOMIC_RELEASE);
        struct file *file = file_of(fd);
        if (file && creates) { /* the number of a removed file, perhaps: its journal is not this one's */
            pthread_mutex_lock(&file->lock);
            open_journal(file);
            if (REAL(ftruncate64)(file->journal, 0) != 0) die("emptying a journal");
            pthread_mutex_unlock(&file->lock);
        }
        if (cuts && ftruncate64(fd, 0) != 0) {
            saved = errno;
            REAL(close)(fd);
            errno = saved;
            return -1;
        }
    }
    errno = saved;
    return fd;
}

#define ACCESS(flags)                                          \
    mode_t access = 0;                                         \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                     \
        va_list arguments;                                     \
        va_start(arguments, flags);                            \
        access = (mode_t)va_arg(arguments, int);               \
        va_end(arguments);                                     \
    }
int open(const char *path, int flags, ...) { ACCESS(flags) return open_file(path, flags, access); }
int open64(const char *path, int flags, ...) { ACCESS(flags) return open_file(path, flags | O_LARGEFILE, access); }
int creat(const char *path, mode_t access) { return open_file(path, O_CREAT | O_WRONLY | O_TRUNC, access); }
int creat64(const char *path, mode_t access) { return creat(path, access); }

int close(int fd) {
    if (fd >= 0 && fd < FDS) __atomic_store_n(&by_fd[fd], NULL, __ATOMIC_RELEASE);
    return REAL(close)(fd);
}

int fclose(FILE *stream) { /* closes its descriptor without calling close() */
    int fd = fileno(stream);
    if (fd >= 0 && fd < FDS) __atomic_store_n(&by_fd[fd], NULL, __ATOMIC_RELEASE);
    return REAL(fclose)(stream);
}

int rename(const char *from, const char *to) {
    char a[PATH_MAX], b[PATH_MAX], name[NAME_MAX];
    if (!on || !absolute(from, a) || !absolute(to, b) || !inside(b)) return REAL(rename)(from, to);
    pthread_mutex_lock(&meta_lock);
    int over = backup(b, name);
    note("R\t%s\t%s\t%s\n", a, b, over ? name : "-");
    int result = REAL(rename)(from, to);
    int saved = errno;
    pthread_mutex_unlock(&meta_lock);
    errno = saved;
    return result;
}

int unlink(const char *path) {
    char full[PATH_MAX], name[NAME_MAX];
    if (!on || !absolute(path, full) || !inside(full)) return REAL(unlink)(path);
    pthread_mutex_lock(&meta_lock);
    if (backup(full, name)) note("U\t%s\t%s\n", full, name);
    int result = REAL(unlink)(path);
    int saved = errno;
    pthread_mutex_unlock(&meta_lock);
    errno = saved;
    return result;
}

/* Rust's remove_dir_all: name relative to a folder's descriptor. */
int unlinkat(int folder, const char *path, int flags) {
    char link_name[64], at[PATH_MAX], full[2 * PATH_MAX], name[NAME_MAX];
    snprintf(link_name, sizeof link_name, "/proc/self/fd/%d", folder);
    ssize_t length = path[0] == '/' || folder == AT_FDCWD || (flags & AT_REMOVEDIR) ? -1 : readlink(link_name, at, sizeof at - 1);
    if (length < 0) return path[0] != '/' || (flags & AT_REMOVEDIR) ? REAL(unlinkat)(folder, path, flags) : unlink(path);
    at[length] = 0;
    snprintf(full, sizeof full, "%s/%s", at, path);
    if (!inside(full)) return REAL(unlinkat)(folder, path, flags);
    pthread_mutex_lock(&meta_lock);
    if (backup(full, name)) note("U\t%s\t%s\n", full, name);
    int result = REAL(unlinkat)(folder, path, flags);
    int saved = errno;
    pthread_mutex_unlock(&meta_lock);
    errno = saved;
    return result;
}

int link(const char *from, const char *to) {
    char full[PATH_MAX];
    if (!on || !absolute(to, full) || !inside(full)) return REAL(link)(from, to);
    pthread_mutex_lock(&meta_lock);
    note("L\t%s\n", full);
    int result = REAL(link)(from, to);
    int saved = errno;
    pthread_mutex_unlock(&meta_lock);
    errno = saved;
    return result;
}

/* A full disk says so also to those who ask before they write. */
#define FULL(space) do { if (on && mode(WRITE_MODE) == WRITE_FULL) (space)->f_bavail = (space)->f_bfree = 0; } while (0)
int statvfs64(const char *path, struct statvfs64 *space) {
    int result = REAL(statvfs64)(path, space);
    if (result == 0) FULL(space);
    return result;
}
int fstatvfs64(int fd, struct statvfs64 *space) {
    int result = REAL(fstatvfs64)(fd, space);
    if (result == 0) FULL(space);
    return result;
}
int statfs64(const char *path, struct statfs64 *space) {
    int result = REAL(statfs64)(path, space);
    if (result == 0) FULL(space);
    return result;
}
int fstatfs64(int fd, struct statfs64 *space) {
    int result = REAL(fstatfs64)(fd, space);
    if (result == 0) FULL(space);
    return result;
}
int statvfs(const char *path, struct statvfs *space) { return statvfs64(path, (struct statvfs64 *)space); }
int fstatvfs(int fd, struct statvfs *space) { return fstatvfs64(fd, (struct statvfs64 *)space); }
int statfs(const char *path, struct statfs *space) { return statfs64(path, (struct statfs64 *)space); }
int fstatfs(int fd, struct statfs *space) { return fstatfs64(fd, (struct statfs64 *)space); }
