/*
 * An emulated V4L2 capture device for tests, loaded with LD_PRELOAD. README.md beside this file says
 * what it does and how it is steered. 64-bit Linux with glibc only (x86-64, AArch64).
 *   cc -shared -fPIC -O2 -Wall -Wextra -o libemulated_v4l2.so emulated_v4l2.c -ldl -lpthread
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <linux/videodev2.h>

_Static_assert(sizeof(void *) == 8 && sizeof(struct stat) == sizeof(struct stat64), "64-bit only");

#define MAX_FD 4096
#define MAX_BUFFERS 32
#define PATH_SIZE 4096
#define SLICE_NS 5000000ull /* how often the control file is looked at while a caller waits */

/* ---- the way through -------------------------------------------------------------------------------
 * What is not for the device becomes the bare system call: no dlsym, so nothing can recurse while the
 * program starts. Only realpath and the directory functions are looked up in libc. */

static long raw(long n, long a, long b, long c, long d, long e, long f) {
    long r;
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    r = x0;
#else
#error "add this architecture's system call instruction"
#endif
    return r < 0 && r > -4096 ? errno = (int)-r, -1 : r;
}
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ALSO(alias, name) __asm__(".globl " #alias "\n.set " #alias ", " #name) /* the same on 64 bits */

static int raw_close(int fd) { return (int)raw(SYS_close, fd, 0, 0, 0, 0, 0); }
static int raw_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask) {
    struct timespec copy = timeout ? *timeout : (struct timespec){0}; /* the kernel writes to it */
    return (int)raw(SYS_ppoll, (long)fds, (long)n, timeout ? (long)&copy : 0, (long)mask, 8, 0);
}

/* ---- state, all of it under the lock ------------------------------------------------------------- */
enum mode { RUN, STALL, UNPLUG, REPLUG, CORRUPT, TRUNCATE, TRUNCATE_STALE, BUSY, MODES };
static const char *const words[] = {"run", "stall", "unplug", "replug", "corrupt", "truncate", "truncate-stale", "busy"};
static const struct size { unsigned w, h; } yuyv_size = {64, 48};
struct jpeg { unsigned char *data; size_t len; struct size size; };
struct slot { bool queued; uint64_t time_ns; uint32_t sequence, used; };

struct handle { /* one open() of the device */
    int fd;
    unsigned generation, buffers; /* dead as soon as the generation is not device.generation */
    size_t length, stride; /* of one buffer, and from one to the next */
    unsigned char *memory;
    struct slot slot[MAX_BUFFERS];
    unsigned queue[MAX_BUFFERS], queued, filled; /* the first `filled` of the queue are done */
    bool streaming;
    uint64_t next_frame_ns;
    uint32_t sequence, delivered;
};

static struct {
    bool configured, match_size;
    char path[64], by_id[200], control[PATH_SIZE], control_text[128];
    enum mode mode;
    unsigned generation, jpegs, sizes, formats;
    struct jpeg *jpeg;
    struct size size[64], current; /* of the JPEG files, each once; the one that is set */
    uint32_t format[2], pixelformat;
    struct v4l2_fract interval;
    struct handle *owner; /* who has buffers */
} device;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct handle *) handles[MAX_FD];

static void refresh(void);
static void unlock(void) { pthread_mutex_unlock(&mutex); }
static void lock(void) { pthread_mutex_lock(&mutex); }
static void lock_and_refresh(void) { lock(), refresh(); }
__attribute__((constructor)) static void at_load(void) { pthread_atfork(lock, unlock, unlock); }

static bool is_handle(int fd) {
    return fd >= 0 && fd < MAX_FD && atomic_load_explicit(&handles[fd], memory_order_relaxed);
}
static uint64_t in_ns(const struct timespec *t) { return (uint64_t)t->tv_sec * 1000000000ull + (uint64_t)t->tv_nsec; }
static uint64_t now_ns(void) {
    struct timespec t;
    return clock_gettime(CLOCK_MONOTONIC, &t) ? 0 : in_ns(&t);
}
static uint64_t period_ns(void) { return 1000000000ull * device.interval.numerator / device.interval.denominator; }

static bool find_size(struct jpeg *j) {
    for (size_t i = 2; i + 9 < j->len && j->data[i] == 0xff; i += 2 + j->data[i + 2] * 256u + j->data[i + 3]) {
        unsigned m = j->data[i + 1];
        if (m < 0xc0 || m > 0xcf || m == 0xc4 || m == 0xc8 || m == 0xcc) continue;
        j->size.h = j->data[i + 5] * 256u + j->data[i + 6];
        j->size.w = j->data[i + 7] * 256u + j->data[i + 8];
        return j->size.w && j->size.h;
    }
    return false;
}
static bool same(struct size a, struct size b) { return a.w == b.w && a.h == b.h; }
static void load_jpegs(const char *folder) { /* scandir and fopen do not come back through this file */
    struct dirent **names;
    int n = scandir(folder, &names, NULL, alphasort);
    if (n <= 0 || !(device.jpeg = calloc((size_t)n, sizeof *device.jpeg))) return;
    for (int i = 0; i < n; i++) {
        const char *dot = strrchr(names[i]->d_name, '.');
        char path[PATH_SIZE];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        FILE *f = dot && (!strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg")) ? fopen(path, "rb") : NULL;
        free(names[i]);
        if (!f) continue;
        struct jpeg j = {0};
        long len = fseek(f, 0, SEEK_END) ? 0 : ftell(f);
        rewind(f);
        if (len > 0 && (j.data = malloc((size_t)len))) j.len = fread(j.data, 1, (size_t)len, f);
        fclose(f);
        unsigned s = 0;
        while (find_size(&j) && s < device.sizes && !same(device.size[s], j.size)) s++;
        if (!j.size.w || s == 64) { free(j.data); continue; }
        if (s == device.sizes) device.size[device.sizes++] = j.size;
        device.jpeg[device.jpegs++] = j;
    }
    free(names);
}
static void reset_format(void) {
    device.pixelformat = device.format[0];
    device.current = device.format[0] == V4L2_PIX_FMT_MJPEG ? device.size[0] : yuyv_size;
    device.owner = NULL;
}
static const char *setting(const char *name, const char *start, const char *otherwise) {
    const char *v = getenv(name);
    return v && !strncmp(v, start, strlen(start)) ? v : otherwise;
}
static void configure(void) {
    unsigned n = 0, d = 1; /* frames per second: "10" or, as a fraction, "15/2" */
    device.configured = true;
#define TEXT(to, ...) snprintf(device.to, sizeof device.to, "%s", setting(__VA_ARGS__))
    TEXT(path, "EMULATED_V4L2_DEVICE", "/dev/", "/dev/video0");
    TEXT(by_id, "EMULATED_V4L2_BY_ID", "/dev/", "/dev/v4l/by-id/usb-Emulated_Camera_0001-video-index0");
    TEXT(control, "EMULATED_V4L2_CONTROL", "", "");
    device.match_size = *setting("EMULATED_V4L2_MATCH_SIZE", "", "0") == '1';
    if (sscanf(setting("EMULATED_V4L2_FPS", "", "10"), "%u/%u", &n, &d) < 1 || !n || !d) n = 10, d = 1;
    device.interval = (struct v4l2_fract){d, n};
    char format = *setting("EMULATED_V4L2_FORMAT", "", "MJPG"); /* MJPG, YUYV or BOTH */
    if (format != 'Y') load_jpegs(setting("EMULATED_V4L2_FRAMES", "", ""));
    if (format != 'Y' && !device.jpegs) fputs("emulated_v4l2: no JPEG in EMULATED_V4L2_FRAMES, so YUYV\n", stderr);
    if (format != 'M' || !device.jpegs) device.format[device.formats++] = V4L2_PIX_FMT_YUYV;
    if (device.jpegs) device.format[device.formats++] = V4L2_PIX_FMT_MJPEG;
    reset_format();
}
/* Re-reads the control file. Every entry point that concerns the device begins with this. */
static void refresh(void) {
    if (!device.configured) configure();
    if (!device.control[0]) return;
    char text[sizeof device.control_text] = "run", word[32] = "", path[64] = "";
    int saved = errno, fd = (int)raw(SYS_openat, AT_FDCWD, (long)device.control, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    long n = fd < 0 ? 3 : raw(SYS_read, fd, (long)text, sizeof text - 1, 0, 0, 0);
    text[n > 0 ? n : 0] = 0;
    if (fd >= 0) raw_close(fd);
    errno = saved;
    /* An empty file is one that is being written: the last word holds. */
    if (!strcmp(text, device.control_text) || sscanf(text, "%31s %63s", word, path) < 1) return;
    enum mode mode = RUN;
    while (mode < MODES && strcmp(word, words[mode])) mode++;
    if (mode == MODES) return;
    strcpy(device.control_text, text);
    device.mode = mode;
    bool moved = !strncmp(path, "/dev/", 5) && strcmp(path, device.path);
    if (moved) strcpy(device.path, path);
    if (!moved && mode != UNPLUG && mode != REPLUG) return;
    device.generation++;
    reset_format();
}

/* ---- paths ---------------------------------------------------------------------------------------- */
enum kind { OTHER, NODE, BY_ID, BY_ID_FOLDER, DEV_FOLDER, SYS_NAME };
/* What an absolute path names, whether or not it is present at the moment. */
static enum kind classify(const char *path, bool *present) {
    *present = false;
    char full[PATH_SIZE], clean[PATH_SIZE + 1] = "", sys[128], *save = NULL;
    if (!path || *path != '/' || strlen(path) >= sizeof full || (!strstr(path, "dev") && !strstr(path, "video")))
        return OTHER;
    strcpy(full, path);
    for (char *p = strtok_r(full, "/", &save); p; p = strtok_r(NULL, "/", &save)) {
        char *up = strrchr(clean, '/');
        if (!strcmp(p, "..")) { if (up) *up = 0; }
        else if (strcmp(p, ".")) strcat(strcat(clean, "/"), p);
    }
    lock_and_refresh();
    *present = device.mode != UNPLUG;
    snprintf(sys, sizeof sys, "/sys/class/video4linux/%s/name", strrchr(device.path, '/') + 1);
    size_t folder = (size_t)(strrchr(device.by_id, '/') - device.by_id);
    enum kind kind = !strcmp(clean, device.path) ? NODE
                   : !strcmp(clean, device.by_id) ? BY_ID
                   : !strcmp(clean, sys) ? SYS_NAME
                   : !strcmp(clean, "/dev") ? DEV_FOLDER
                   : strlen(clean) == folder && !strncmp(clean, device.by_id, folder) ? BY_ID_FOLDER : OTHER;
    unlock();
    return kind;
}
static int open_any(int dirfd, const char *path, int flags, mode_t mode) {
    static const char name[] = "Emulated Camera\n";
    bool present;
    enum kind kind = classify(path, &present);
    if (kind != NODE && kind != BY_ID && kind != SYS_NAME)
        return (int)raw(SYS_openat, dirfd, (long)path, flags, mode, 0, 0);
    if (!present) return errno = ENOENT, -1;
    int fd = (int)raw(SYS_memfd_create, (long)"emulated-v4l2", flags & O_CLOEXEC ? MFD_CLOEXEC : 0, 0, 0, 0, 0);
    if (fd >= 0 && kind == SYS_NAME) raw(SYS_pwrite64, fd, (long)name, sizeof name - 1, 0, 0, 0);
    if (fd < 0 || kind == SYS_NAME) return fd;
    struct handle *h = fd < MAX_FD ? calloc(1, sizeof *h) : NULL;
    if (!h) return raw_close(fd), errno = EMFILE, -1;
    if (flags & O_NONBLOCK) fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
    lock();
    h->fd = fd, h->generation = device.generation;
    atomic_store(&handles[fd], h);
    unlock();
    return fd;
}
/* The mode is rubbish unless a file may be created, and then the kernel ignores it. */
#define OPEN(dirfd) \
    va_list v; va_start(v, flags); mode_t mode = va_arg(v, mode_t); va_end(v); \
    return open_any(dirfd, path, flags, mode)
int open(const char *path, int flags, ...) { OPEN(AT_FDCWD); }
int openat(int dirfd, const char *path, int flags, ...) { OPEN(dirfd); }
ALSO(open64, open); ALSO(openat64, openat);
static void release_buffers(struct handle *h) {
    if (h->memory) munmap(h->memory, h->stride * h->buffers);
    h->memory = NULL;
    h->buffers = h->queued = h->filled = 0;
    h->streaming = false;
    memset(h->slot, 0, sizeof h->slot);
    if (device.owner == h) device.owner = NULL;
}
int close(int fd) {
    if (is_handle(fd)) {
        lock();
        struct handle *h = atomic_exchange(&handles[fd], NULL);
        if (h) release_buffers(h);
        unlock();
        free(h);
    }
    return raw_close(fd);
}
static unsigned minor_number(void) { return (unsigned)atoi(device.path + strcspn(device.path, "0123456789")); }
/* 0 = not ours, 1 = *mode is set, -1 = ours but absent (errno is set). */
static int mode_of(int dirfd, const char *path, int flags, mode_t *mode) {
    bool present = true, by_fd = (!path || !*path) && flags & AT_EMPTY_PATH;
    if (by_fd && !is_handle(dirfd)) return 0;
    switch (by_fd ? NODE : classify(path, &present)) {
    case NODE: *mode = S_IFCHR | 0660; break;
    case BY_ID: *mode = flags & AT_SYMLINK_NOFOLLOW ? S_IFLNK | 0777 : S_IFCHR | 0660; break;
    case BY_ID_FOLDER: *mode = S_IFDIR | 0755; break;
    case SYS_NAME: *mode = S_IFREG | 0444; break;
    default: return 0;
    }
    return present ? 1 : (errno = ENOENT, -1);
}
int fstatat(int dirfd, const char *path, struct stat *s, int flags) {
    mode_t mode;
    int r = mode_of(dirfd, path, flags, &mode);
    if (r <= 0) return r < 0 ? -1 : (int)raw(SYS_newfstatat, dirfd, (long)path, (long)s, flags, 0, 0);
    *s = (struct stat){.st_mode = mode, .st_nlink = 1, .st_ino = 7000, .st_blksize = 4096,
                       .st_rdev = S_ISCHR(mode) ? makedev(81, minor_number()) : 0};
    return 0;
}
int stat(const char *path, struct stat *s) { return fstatat(AT_FDCWD, path, s, 0); }
int lstat(const char *path, struct stat *s) { return fstatat(AT_FDCWD, path, s, AT_SYMLINK_NOFOLLOW); }
int fstat(int fd, struct stat *s) { return fstatat(fd, "", s, AT_EMPTY_PATH); }
ALSO(fstatat64, fstatat); ALSO(stat64, stat); ALSO(lstat64, lstat); ALSO(fstat64, fstat);
int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *s) {
    mode_t mode;
    int r = mode_of(dirfd, path, flags, &mode);
    if (r <= 0) return r < 0 ? -1 : (int)raw(SYS_statx, dirfd, (long)path, flags, mask, (long)s, 0);
    *s = (struct statx){.stx_mask = STATX_BASIC_STATS, .stx_mode = (uint16_t)mode, .stx_nlink = 1,
                        .stx_ino = 7000, .stx_blksize = 4096, .stx_rdev_major = S_ISCHR(mode) ? 81 : 0,
                        .stx_rdev_minor = S_ISCHR(mode) ? minor_number() : 0};
    return 0;
}
ssize_t readlink(const char *path, char *out, size_t size) {
    bool present = true, by_fd = !strncmp(path, "/proc/self/fd/", 14) && path[14] && is_handle(atoi(path + 14));
    enum kind kind = by_fd ? OTHER : classify(path, &present);
    if (!by_fd && kind != NODE && kind != BY_ID)
        return raw(SYS_readlinkat, AT_FDCWD, (long)path, (long)out, (long)size, 0, 0);
    if (!present || kind == NODE) return errno = present ? EINVAL : ENOENT, -1;
    char text[sizeof device.path + 8] = "";
    strcat(strcpy(text, by_fd ? "" : "../.."), device.path + (by_fd ? 0 : 4));
    if (strlen(text) < size) size = strlen(text);
    memcpy(out, text, size);
    return (ssize_t)size;
}
char *realpath(const char *path, char *out) {
    bool present;
    enum kind kind = classify(path, &present);
    if (kind != NODE && kind != BY_ID) return NEXT(realpath)(path, out);
    return !present ? errno = ENOENT, NULL : out ? strcpy(out, device.path) : strdup(device.path);
}

/* /dev and the by-id folder gain one entry. */
static struct folder { DIR *dir; bool invented, given; struct dirent entry; } folders[32];
static struct folder *folder_of(DIR *dir) {
    for (unsigned i = 0; i < 32; i++) if (folders[i].dir == dir) return &folders[i];
    return NULL;
}
DIR *opendir(const char *path) {
    bool present;
    enum kind kind = classify(path, &present);
    DIR *dir = NEXT(opendir)(path);
    if (kind != DEV_FOLDER && kind != BY_ID_FOLDER) return dir;
    bool invented = !dir && present;
    if (invented) dir = NEXT(opendir)("/"); /* something to hold on to */
    lock();
    struct folder *f = dir ? folder_of(NULL) : NULL;
    if (f) {
        *f = (struct folder){dir, invented, !present, {.d_ino = 7000, .d_reclen = sizeof f->entry}};
        f->entry.d_type = kind == DEV_FOLDER ? DT_CHR : DT_LNK;
        strcpy(f->entry.d_name, strrchr(kind == DEV_FOLDER ? device.path : device.by_id, '/') + 1);
    }
    unlock();
    return dir;
}
struct dirent *readdir(DIR *dir) {
    struct folder *f = folder_of(dir); /* a directory stream belongs to one thread at a time */
    struct dirent *e;
    do e = f && f->invented ? NULL : NEXT(readdir)(dir);
    while (e && f && !strcmp(e->d_name, f->entry.d_name)); /* a real node of the same name is hidden */
    if (e || !f || f->given) return e;
    f->given = true;
    return &f->entry;
}
ALSO(readdir64, readdir);
int closedir(DIR *dir) {
    lock();
    struct folder *f = folder_of(dir);
    if (f) f->dir = NULL;
    unlock();
    return NEXT(closedir)(dir);
}

/* ---- the device ----------------------------------------------------------------------------------- */
static bool dead(const struct handle *h) { return device.mode == UNPLUG || h->generation != device.generation; }
/* Lets the frames that are due arrive: into the queued buffers, in order; without one they are lost. */
static void advance(struct handle *h) {
    uint64_t now = now_ns(), period = period_ns();
    if (!h->streaming) return;
    if (device.mode == STALL) h->next_frame_ns = now + period;
    for (; h->next_frame_ns <= now && h->filled < h->queued; h->next_frame_ns += period) {
        struct slot *s = &h->slot[h->queue[h->filled++]];
        s->time_ns = h->next_frame_ns;
        s->sequence = h->sequence++;
    }
    uint64_t lost = h->next_frame_ns <= now ? (now - h->next_frame_ns) / period + 1 : 0;
    h->sequence += (uint32_t)lost;
    h->next_frame_ns += lost * period;
}
static size_t image_size(uint32_t pixelformat, struct size s) {
    size_t n = (size_t)s.w * s.h * 2;
    for (unsigned i = 0; pixelformat == V4L2_PIX_FMT_MJPEG && i < device.jpegs; i++)
        if (device.jpeg[i].len > n) n = device.jpeg[i].len;
    return n;
}
/* Writes the next frame into a buffer. What lies behind it stays, as with real hardware. */
static void fill(struct handle *h, unsigned index) {
    unsigned char *out = h->memory + index * h->stride;
    bool cut = device.mode == TRUNCATE || device.mode == TRUNCATE_STALE;
    size_t n, w = device.current.w, rows = device.current.h;
    if (device.pixelformat == V4L2_PIX_FMT_MJPEG) {
        struct jpeg *j;
        do j = &device.jpeg[h->delivered++ % device.jpegs];
        while (device.match_size && !same(j->size, device.current)); /* which is always one of theirs */
        memcpy(out, j->data, n = cut ? j->len / 2 : j->len);
    } else {
        unsigned t = h->delivered++;
        n = cut ? w * rows : w * rows * 2;
        for (size_t i = 0; i < n; i += 2) {
            size_t x = i / 2 % w, y = i / 2 / w;
            out[i] = (unsigned char)(4 * x + 2 * y + 8 * t);
            out[i + 1] = (unsigned char)(x & 1 ? 255 * y / rows : 255 * x / w);
        }
    }
    for (size_t i = 0; device.mode == CORRUPT && i < 64; i++) out[n / 2 + i] = (unsigned char)(i * 37 + 11);
    if (device.mode == TRUNCATE) memset(out + n, 0, h->length - n);
    h->slot[index].used = (uint32_t)n;
}
static int describe(struct handle *h, struct v4l2_buffer *b) {
    struct slot *s = &h->slot[b->index];
    *b = (struct v4l2_buffer){.index = b->index, .type = b->type, .memory = V4L2_MEMORY_MMAP,
        .bytesused = s->used, .length = (uint32_t)h->length, .m.offset = (uint32_t)(b->index * h->stride),
        .flags = V4L2_BUF_FLAG_MAPPED | V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | (s->queued ? V4L2_BUF_FLAG_QUEUED : 0),
        .field = V4L2_FIELD_NONE, .sequence = s->sequence,
        .timestamp = {(long)(s->time_ns / 1000000000ull), (long)(s->time_ns % 1000000000ull / 1000)}};
    return 0;
}
static int request_buffers(struct handle *h, struct v4l2_requestbuffers *r) {
    if (r->memory != V4L2_MEMORY_MMAP) return EINVAL;
    if (device.mode == BUSY || h->streaming || (device.owner && device.owner != h)) return EBUSY;
    release_buffers(h);
    r->capabilities = V4L2_BUF_CAP_SUPPORTS_MMAP;
    if (!r->count) return 0;
    r->count = r->count < 2 ? 2 : r->count > MAX_BUFFERS ? MAX_BUFFERS : r->count;
    h->length = image_size(device.pixelformat, device.current);
    h->stride = (h->length + 4095) & ~(size_t)4095;
    if (ftruncate(h->fd, (off_t)(h->stride * MAX_BUFFERS))) return ENOMEM; /* sparse */
    void *m = (void *)raw(SYS_mmap, 0, (long)(h->stride * r->count), PROT_READ | PROT_WRITE, MAP_SHARED, h->fd, 0);
    if (m == MAP_FAILED) return ENOMEM;
    h->memory = m, h->buffers = r->count, device.owner = h;
    return 0;
}
static bool known_format(uint32_t f) { return f == device.format[0] || (device.formats > 1 && f == device.format[1]); }
static int format_ioctl(struct v4l2_pix_format *p, uint32_t request) {
    uint32_t pixelformat = device.pixelformat;
    struct size size = device.current;
    if (request != VIDIOC_G_FMT) { /* the nearest that there is */
        pixelformat = known_format(p->pixelformat) ? p->pixelformat : device.format[0];
        long best = INT64_MAX;
        for (unsigned i = 0; i < device.sizes; i++) {
            long dw = (long)device.size[i].w - (long)p->width, dh = (long)device.size[i].h - (long)p->height;
            if (dw * dw + dh * dh < best) best = dw * dw + dh * dh, size = device.size[i];
        }
        if (pixelformat == V4L2_PIX_FMT_YUYV) size = yuyv_size;
    }
    if (request == VIDIOC_S_FMT) {
        if (device.mode == BUSY || device.owner) return EBUSY;
        device.pixelformat = pixelformat, device.current = size;
    }
    *p = (struct v4l2_pix_format){.width = size.w, .height = size.h, .pixelformat = pixelformat,
        .field = V4L2_FIELD_NONE, .bytesperline = pixelformat == V4L2_PIX_FMT_YUYV ? size.w * 2 : 0,
        .sizeimage = (uint32_t)image_size(pixelformat, size), .colorspace = V4L2_COLORSPACE_SRGB};
    return 0;
}
static int stream(struct handle *h, bool on) {
    if (device.owner && device.owner != h) return EBUSY;
    if (on && (!h->buffers || h->streaming)) return h->buffers ? 0 : EINVAL;
    h->streaming = on;
    h->next_frame_ns = now_ns() + period_ns();
    h->sequence = h->delivered = 0;
    if (!on) memset(h->slot, 0, sizeof h->slot), h->queued = h->filled = 0;
    return 0;
}
/* One ioctl, under the lock: 0 or an errno. EAGAIN from DQBUF: no frame is there yet. */
static int do_ioctl(struct handle *h, uint32_t request, void *arg) {
    if (dead(h)) return ENODEV;
    if (!arg) return EFAULT;
    advance(h);
    union { struct v4l2_capability cap; struct v4l2_fmtdesc desc; struct v4l2_frmsizeenum size;
            struct v4l2_frmivalenum interval; struct v4l2_format format; struct v4l2_streamparm parm;
            struct v4l2_requestbuffers request; struct v4l2_buffer buffer; uint32_t type; } *u = arg;
#define WRONG(type) ((type) != V4L2_BUF_TYPE_VIDEO_CAPTURE)
    switch (request) {
    case VIDIOC_QUERYCAP:
        u->cap = (struct v4l2_capability){.driver = "emulated_v4l2", .card = "Emulated Camera",
            .bus_info = "usb-emulated-1", .version = 6 << 16 | 1 << 8,
            .capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING | V4L2_CAP_DEVICE_CAPS,
            .device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING};
        return 0;
    case VIDIOC_ENUM_FMT:
        if (WRONG(u->desc.type) || u->desc.index >= device.formats) return EINVAL;
        u->desc.pixelformat = device.format[u->desc.index];
        u->desc.flags = u->desc.pixelformat == V4L2_PIX_FMT_MJPEG ? V4L2_FMT_FLAG_COMPRESSED : 0;
        strcpy((char *)u->desc.description, u->desc.flags ? "Motion-JPEG" : "YUYV 4:2:2");
        return 0;
    case VIDIOC_ENUM_FRAMESIZES: {
        bool jpeg = u->size.pixel_format == V4L2_PIX_FMT_MJPEG;
        if (!known_format(u->size.pixel_format) || u->size.index >= (jpeg ? device.sizes : 1)) return EINVAL;
        u->size.type = V4L2_FRMSIZE_TYPE_DISCRETE;
        const struct size *size = jpeg ? &device.size[u->size.index] : &yuyv_size;
        u->size.discrete = (struct v4l2_frmsize_discrete){size->w, size->h};
        return 0;
    }
    case VIDIOC_ENUM_FRAMEINTERVALS:
        if (!known_format(u->interval.pixel_format) || u->interval.index > 0) return EINVAL;
        u->interval.type = V4L2_FRMIVAL_TYPE_DISCRETE, u->interval.discrete = device.interval;
        return 0;
    case VIDIOC_G_FMT: case VIDIOC_TRY_FMT: case VIDIOC_S_FMT:
        return WRONG(u->format.type) ? EINVAL : format_ioctl(&u->format.fmt.pix, request);
    case VIDIOC_G_PARM: case VIDIOC_S_PARM: /* there is one rate only, so setting changes nothing */
        if (WRONG(u->parm.type)) return EINVAL;
        if (request == VIDIOC_S_PARM && (device.mode == BUSY || device.owner)) return EBUSY;
        u->parm.parm.capture = (struct v4l2_captureparm){V4L2_CAP_TIMEPERFRAME, 0, device.interval, 0, 0, {0}};
        return 0;
    case VIDIOC_REQBUFS:
        return WRONG(u->request.type) ? EINVAL : request_buffers(h, &u->request);
    case VIDIOC_QUERYBUF:
        return WRONG(u->buffer.type) || u->buffer.index >= h->buffers ? EINVAL : describe(h, &u->buffer);
    case VIDIOC_QBUF:
        if (WRONG(u->buffer.type) || u->buffer.memory != V4L2_MEMORY_MMAP || u->buffer.index >= h->buffers ||
            h->slot[u->buffer.index].queued) return EINVAL;
        h->slot[u->buffer.index] = (struct slot){.queued = true};
        h->queue[h->queued++] = u->buffer.index;
        return describe(h, &u->buffer);
    case VIDIOC_DQBUF:
        if (WRONG(u->buffer.type) || u->buffer.memory != V4L2_MEMORY_MMAP || !h->streaming) return EINVAL;
        if (!h->filled || device.mode == STALL) return EAGAIN;
        u->buffer.index = h->queue[0];
        h->filled--, memmove(h->queue, h->queue + 1, --h->queued * sizeof h->queue[0]);
        h->slot[u->buffer.index].queued = false;
        fill(h, u->buffer.index);
        return describe(h, &u->buffer);
    case VIDIOC_STREAMON: case VIDIOC_STREAMOFF:
        return WRONG(u->type) ? EINVAL : stream(h, request == VIDIOC_STREAMON);
    case VIDIOC_QUERYCTRL: case VIDIOC_QUERY_EXT_CTRL: case VIDIOC_QUERYMENU: case VIDIOC_G_CTRL: case VIDIOC_S_CTRL:
    case VIDIOC_G_EXT_CTRLS: case VIDIOC_S_EXT_CTRLS: case VIDIOC_TRY_EXT_CTRLS: return EINVAL; /* no controls */
    default: return ENOTTY;
    }
}
int ioctl(int fd, unsigned long request, ...) {
    va_list v; va_start(v, request); void *arg = va_arg(v, void *); va_end(v);
    if (!is_handle(fd) || _IOC_TYPE(request) != 'V') return (int)raw(SYS_ioctl, fd, (long)request, (long)arg, 0, 0, 0);
    for (;;) {
        lock_and_refresh();
        struct handle *h = atomic_load(&handles[fd]);
        int error = h ? do_ioctl(h, (uint32_t)request, arg) : EBADF;
        unlock();
        if (!error) return 0;
        struct timespec slice = {0, (long)SLICE_NS};
        if (error != EAGAIN || fcntl(fd, F_GETFL) & O_NONBLOCK) return errno = error, -1;
        if (raw_ppoll(NULL, 0, &slice, NULL) < 0) return -1; /* a blocking DQBUF was interrupted */
    }
}
/* The v4l crate makes its ioctl calls through libc's syscall(). */
long syscall(long n, ...) {
    long a[6];
    va_list v; va_start(v, n);
    for (int i = 0; i < 6; i++) a[i] = va_arg(v, long);
    va_end(v);
    if (n == SYS_ioctl) return ioctl((int)a[0], (unsigned long)a[1], (void *)a[2]);
    if (n == SYS_close) return close((int)a[0]);
    return raw(n, a[0], a[1], a[2], a[3], a[4], a[5]);
}
/* The memory is the memfd's own, at the offsets that QUERYBUF told. munmap needs nothing. */
void *mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset) {
    if (!(flags & MAP_ANONYMOUS) && is_handle(fd)) {
        lock_and_refresh();
        struct handle *h = atomic_load(&handles[fd]);
        bool gone = !h || dead(h);
        unlock();
        if (gone) return errno = ENODEV, MAP_FAILED;
    }
    return (void *)raw(SYS_mmap, (long)at, (long)length, prot, flags, fd, offset);
}
ALSO(mmap64, mmap);
static int events_of(struct handle *h) {
    if (!h || dead(h)) return h ? POLLERR | POLLHUP : POLLNVAL;
    advance(h);
    return !h->streaming ? POLLERR : h->filled && device.mode != STALL ? POLLIN | POLLRDNORM : 0;
}
int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask) {
    bool ours = false;
    for (nfds_t i = 0; i < n; i++) ours |= is_handle(fds[i].fd);
    if (!ours) return raw_ppoll(fds, n, timeout, mask);
    struct pollfd others[n];
    uint64_t end = timeout ? now_ns() + in_ns(timeout) : UINT64_MAX;
    for (;;) {
        int hits = 0;
        lock_and_refresh();
        for (nfds_t i = 0; i < n; i++) {
            others[i] = fds[i];
            fds[i].revents = 0;
            if (!is_handle(fds[i].fd)) continue;
            others[i].fd = -1;
            int events = events_of(atomic_load(&handles[fds[i].fd]));
            fds[i].revents = (short)(events & (fds[i].events | POLLERR | POLLHUP | POLLNVAL));
            hits += fds[i].revents != 0;
        }
        unlock();
        uint64_t now = now_ns(), left = end > now ? end - now : 0;
        struct timespec slice = {0, (long)(hits ? 0 : left < SLICE_NS ? left : SLICE_NS)};
        int r = raw_ppoll(others, n, &slice, mask);
        if (r < 0) return -1; /* EINTR among others */
        for (nfds_t i = 0; i < n; i++) if (others[i].fd >= 0) fds[i].revents = others[i].revents;
        if (r + hits || !left) return r + hits;
    }
}
int poll(struct pollfd *fds, nfds_t n, int timeout_ms) {
    struct timespec t = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    return ppoll(fds, n, timeout_ms < 0 ? NULL : &t, NULL);
}
