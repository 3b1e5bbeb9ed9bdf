/* A disk that fails or dies when a test wants it to: SQLite's own, with a look at each change of a
 * file before it is made. It becomes the one that everything in this process uses. */
#ifndef MOULT_TESTS_UNIT_STORE_DISK_H
#define MOULT_TESTS_UNIT_STORE_DISK_H

#include <sqlite3.h>
#include <stdint.h>
#include <string.h>

struct disk_change {
    enum { DISK_WRITE, DISK_SYNC, DISK_TRUNCATE, DISK_REMOVE } kind;
    const char *path;
    const void *bytes;   /* Of a write. */
    int size;
    int64_t offset;      /* Of a truncation: the new size. */
};

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    /* What SQLite is told: SQLITE_OK lets the change be made. NULL: all are. */
    int (*decide)(const struct disk_change *change);
} disk;

struct disk_file {
    sqlite3_file base;
    const char *path;
    sqlite3_file *real;
};

#define REAL(file) (((struct disk_file *)(file))->real)
#define FORWARD(name, parameters, arguments)                                                      \
    static int disk_##name parameters {                                                           \
        return REAL(file)->pMethods->name arguments;                                              \
    }

FORWARD(xClose, (sqlite3_file *file), (REAL(file)))
FORWARD(xRead, (sqlite3_file *file, void *to, int size, sqlite3_int64 at),
        (REAL(file), to, size, at))
FORWARD(xFileSize, (sqlite3_file *file, sqlite3_int64 *size), (REAL(file), size))
FORWARD(xLock, (sqlite3_file *file, int level), (REAL(file), level))
FORWARD(xUnlock, (sqlite3_file *file, int level), (REAL(file), level))
FORWARD(xCheckReservedLock, (sqlite3_file *file, int *out), (REAL(file), out))
FORWARD(xFileControl, (sqlite3_file *file, int op, void *value), (REAL(file), op, value))
FORWARD(xSectorSize, (sqlite3_file *file), (REAL(file)))
FORWARD(xDeviceCharacteristics, (sqlite3_file *file), (REAL(file)))
FORWARD(xShmMap, (sqlite3_file *file, int page, int size, int extend, void volatile **out),
        (REAL(file), page, size, extend, out))
FORWARD(xShmLock, (sqlite3_file *file, int at, int count, int flags),
        (REAL(file), at, count, flags))
FORWARD(xShmUnmap, (sqlite3_file *file, int remove), (REAL(file), remove))

static void disk_xShmBarrier(sqlite3_file *file) {
    REAL(file)->pMethods->xShmBarrier(REAL(file));
}

static int disk_asked(struct disk_change change) {
    return disk.decide != NULL && change.path != NULL ? disk.decide(&change) : SQLITE_OK;
}

static int disk_xWrite(sqlite3_file *file, const void *bytes, int size, sqlite3_int64 at) {
    int code = disk_asked((struct disk_change){DISK_WRITE, ((struct disk_file *)file)->path, bytes,
                                               size, at});
    return code != SQLITE_OK ? code : REAL(file)->pMethods->xWrite(REAL(file), bytes, size, at);
}

static int disk_xTruncate(sqlite3_file *file, sqlite3_int64 size) {
    int code = disk_asked((struct disk_change){DISK_TRUNCATE, ((struct disk_file *)file)->path,
                                               NULL, 0, size});
    return code != SQLITE_OK ? code : REAL(file)->pMethods->xTruncate(REAL(file), size);
}

/* What is written is there for this process anyway; waiting for the real disk would test
 * nothing. */
static int disk_xSync(sqlite3_file *file, int flags) {
    (void)flags;
    return disk_asked((struct disk_change){.kind = DISK_SYNC,
                                           .path = ((struct disk_file *)file)->path});
}

static const sqlite3_io_methods disk_methods = {
    .iVersion = 2,
    .xClose = disk_xClose,
    .xRead = disk_xRead,
    .xWrite = disk_xWrite,
    .xTruncate = disk_xTruncate,
    .xSync = disk_xSync,
    .xFileSize = disk_xFileSize,
    .xLock = disk_xLock,
    .xUnlock = disk_xUnlock,
    .xCheckReservedLock = disk_xCheckReservedLock,
    .xFileControl = disk_xFileControl,
    .xSectorSize = disk_xSectorSize,
    .xDeviceCharacteristics = disk_xDeviceCharacteristics,
    .xShmMap = disk_xShmMap,
    .xShmLock = disk_xShmLock,
    .xShmBarrier = disk_xShmBarrier,
    .xShmUnmap = disk_xShmUnmap,
};

static int disk_xOpen(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags,
                      int *flags_out) {
    struct disk_file *opened = (struct disk_file *)file;
    (void)vfs;
    opened->real = (sqlite3_file *)(opened + 1);
    opened->path = path;
    int code = disk.real->xOpen(disk.real, path, opened->real, flags, flags_out);
    opened->base.pMethods = opened->real->pMethods != NULL ? &disk_methods : NULL;
    return code;
}

static int disk_xDelete(sqlite3_vfs *vfs, const char *path, int sync) {
    (void)vfs;
    int code = disk_asked((struct disk_change){.kind = DISK_REMOVE, .path = path});
    return code != SQLITE_OK ? code : disk.real->xDelete(disk.real, path, sync);
}

static void disk_install(void) {
    disk.real = sqlite3_vfs_find(NULL);
    disk.vfs = *disk.real;
    disk.vfs.zName = "disk";
    disk.vfs.szOsFile = (int)sizeof(struct disk_file) + disk.real->szOsFile;
    disk.vfs.xOpen = disk_xOpen;
    disk.vfs.xDelete = disk_xDelete;
    disk.vfs.pNext = NULL;
    sqlite3_vfs_register(&disk.vfs, 1);
}

#endif
