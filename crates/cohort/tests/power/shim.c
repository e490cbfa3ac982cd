/*
 * A disk that can lose power, for the tests of the ledger (loaded with LD_PRELOAD).
 *
 * Everything below POWER_ROOT is written as usual, and what a disk would have kept is noted in
 * POWER_SHADOW: `i/INODE` holds a file as of its last fsync or fdatasync, `d/INODE` the names in a
 * folder as of the folder's last fsync, one "INODE f|d NAME" a line. After a kill, what the shadow
 * holds is the least that a disk may hold; the live files are the most. Everything in between can
 * happen, sector by sector; the test that reads the shadow draws one such disk from a seed.
 *
 * A file that was synced once is also linked as `k/INODE`, so that its inode number is not given
 * out again when it is unlinked or replaced.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define DIRTY_SLOTS 65536

struct dirty {
    ino_t inode;
    off_t from;
    off_t to;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct dirty dirty[DIRTY_SLOTS];
static char root[PATH_MAX];
static char shadow[PATH_MAX];
static size_t root_length;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void start(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    const char *value = getenv("POWER_ROOT");
    if (value && realpath(value, root)) root_length = strlen(root);
    value = getenv("POWER_SHADOW");
    if (!value || !realpath(value, shadow)) root_length = 0;
}

/* Whether the descriptor is a file or folder below the root; fills `status`. */
static int watched(int fd, struct stat *status) {
    if (!root_length || fd < 3 || fstat(fd, status) != 0) return 0;
    if (!S_ISREG(status->st_mode) && !S_ISDIR(status->st_mode)) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < (ssize_t)root_length) return 0;
    path[length] = 0;
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

/* The noted range of an inode; call with the lock held. */
static struct dirty *range_of(ino_t inode) {
    size_t slot = inode % DIRTY_SLOTS;
    for (size_t step = 0; step < DIRTY_SLOTS; step++, slot = (slot + 1) % DIRTY_SLOTS) {
        if (dirty[slot].inode == inode) return &dirty[slot];
        if (dirty[slot].inode == 0) {
            dirty[slot] = (struct dirty){inode, 0, 0};
            return &dirty[slot];
        }
    }
    abort();
}

static void note(ino_t inode, off_t from, off_t to) {
    if (to <= from) return;
    pthread_mutex_lock(&lock);
    struct dirty *range = range_of(inode);
    if (range->to == range->from) {
        range->from = from;
        range->to = to;
    } else {
        if (from < range->from) range->from = from;
        if (to > range->to) range->to = to;
    }
    pthread_mutex_unlock(&lock);
}

static off_t position(int fd, const struct stat *status) {
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_APPEND) ? status->st_size : lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *data, size_t size) {
    struct stat status;
    int mine = watched(fd, &status);
    off_t from = mine ? position(fd, &status) : 0;
    ssize_t done = real_write(fd, data, size);
    if (mine && done > 0) note(status.st_ino, from, from + done);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct stat status;
    int mine = watched(fd, &status);
    off_t from = mine ? position(fd, &status) : 0;
    ssize_t done = real_writev(fd, parts, count);
    if (mine && done > 0) note(status.st_ino, from, from + done);
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) {
    struct stat status;
    int mine = watched(fd, &status);
    ssize_t done = real_pwrite(fd, data, size, at);
    if (mine && done > 0) note(status.st_ino, at, at + done);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

int ftruncate64(int fd, off_t size) {
    struct stat status;
    int mine = watched(fd, &status);
    int result = real_ftruncate(fd, size);
    /* A shorter file forgets what lay behind; the size itself is copied at the next sync. */
    if (mine && result == 0 && size < status.st_size) note(status.st_ino, size, status.st_size);
    return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

/* Copies what has changed since the last sync into the shadow of a file. */
static void keep_file(int fd, const struct stat *before) {
    struct stat status;
    if (fstat(fd, &status) != 0) return;
    char path[PATH_MAX + 64], self[64];
    snprintf(path, sizeof path, "%s/i/%llu", shadow, (unsigned long long)before->st_ino);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int from = open(self, O_RDONLY | O_CLOEXEC);
    int to = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (from < 0 || to < 0) abort();
    pthread_mutex_lock(&lock);
    struct dirty *range = range_of(before->st_ino);
    off_t at = range->from, end = range->to;
    range->from = range->to = 0;
    pthread_mutex_unlock(&lock);
    snprintf(path, sizeof path, "%s/k/%llu", shadow, (unsigned long long)before->st_ino);
    /* No link when it is there already, or when the file has no name any more. */
    if (linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) != 0 && errno != EEXIST && errno != ENOENT) abort();
    char buffer[65536];
    while (at < end) {
        size_t want = end - at < (off_t)sizeof buffer ? (size_t)(end - at) : sizeof buffer;
        ssize_t got = pread(from, buffer, want, at);
        if (got <= 0) break;
        if (real_pwrite(to, buffer, (size_t)got, at) != got) abort();
        at += got;
    }
    if (real_ftruncate(to, status.st_size) != 0) abort();
    close(from);
    close(to);
}

/* Notes the names in a folder. */
static void keep_folder(int fd, const struct stat *status) {
    char path[PATH_MAX + 64], temporary[PATH_MAX + 96], self[64];
    snprintf(path, sizeof path, "%s/d/%llu", shadow, (unsigned long long)status->st_ino);
    snprintf(temporary, sizeof temporary, "%s.%d", path, fd);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    DIR *folder = opendir(self);
    FILE *list = fopen(temporary, "we");
    if (!folder || !list) abort();
    struct dirent *entry;
    while ((entry = readdir(folder))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        fprintf(list, "%llu %c %s\n", (unsigned long long)entry->d_ino, entry->d_type == DT_DIR ? 'd' : 'f', entry->d_name);
    }
    closedir(folder);
    if (fclose(list) != 0 || rename(temporary, path) != 0) abort();
}

static void keep(int fd) {
    struct stat status;
    if (!watched(fd, &status)) return;
    if (S_ISDIR(status.st_mode)) keep_folder(fd, &status);
    else keep_file(fd, &status);
}

int fsync(int fd) {
    int result = real_fsync(fd);
    if (result == 0) keep(fd);
    return result;
}

int fdatasync(int fd) {
    int result = real_fdatasync(fd);
    if (result == 0) keep(fd);
    return result;
}
