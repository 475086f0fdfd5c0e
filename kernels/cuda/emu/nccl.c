/* What stands in for NCCL between processes: shared memory by the name that is the identity, with a mailbox of some
 * bytes for each pair of ranks; a group's sends and receives go on side by side, piece by piece, as their mailboxes let
 * them. All of it is an operation of the stream, so that it runs, or is captured, in the stream's order; a rank that
 * does not come is waited for. One process holds the lock while it copies: this is to be right, not fast. */
#include "kernels/cuda/emu/emu.h"
#include "kernels/cuda/library.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

enum { RANKS_MAX = 8, BOX_BYTES = 1 << 16, MOVES_MAX = 4 * RANKS_MAX };

struct mailbox {
        uint64_t in, out; /* bytes that came and went */
        unsigned char bytes[BOX_BYTES];
};

struct meeting {
        pthread_mutex_t lock;
        pthread_cond_t moved;
        int joined;
        struct mailbox box[RANKS_MAX][RANKS_MAX]; /* [from][to] */
};

struct ncclComm {
        struct meeting *meeting;
        int rank, size;
};

/* A message on its way, to or from a mailbox. */
struct move {
        bool send;
        int peer;
        unsigned char *x;
        uint64_t bytes;
};

struct moves {
        ncclComm_t comm;
        int n;
        struct move move[MOVES_MAX];
};

/* ---- meeting */

static ncclResult_t emu_ncclGetUniqueId(ncclUniqueId *ret)
{
        pthread_mutexattr_t lock;
        pthread_condattr_t moved;
        struct meeting *m;
        uint64_t number;
        int fd;

        memset(ret, 0, sizeof *ret);
        if (getrandom(&number, sizeof number, 0) != sizeof number)
                return ncclSystemError;
        (void)snprintf(ret->internal, sizeof ret->internal, "/mulun-ranks-%016llx", (unsigned long long)number);
        fd = shm_open(ret->internal, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd < 0 || ftruncate(fd, sizeof *m) < 0)
                return ncclSystemError;
        m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        (void)close(fd);
        if (m == MAP_FAILED)
                return ncclSystemError;
        (void)pthread_mutexattr_init(&lock);
        (void)pthread_mutexattr_setpshared(&lock, PTHREAD_PROCESS_SHARED);
        (void)pthread_mutex_init(&m->lock, &lock);
        (void)pthread_condattr_init(&moved);
        (void)pthread_condattr_setpshared(&moved, PTHREAD_PROCESS_SHARED);
        (void)pthread_cond_init(&m->moved, &moved);
        (void)munmap(m, sizeof *m);
        return ncclSuccess;
}

/* The last to come takes the name away: what is left goes with the processes. */
static ncclResult_t emu_ncclCommInitRank(ncclComm_t *ret, int size, ncclUniqueId id, int rank)
{
        int fd = shm_open(id.internal, O_RDWR, 0);
        ncclComm_t c = calloc(1, sizeof *c);
        struct meeting *m = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (fd >= 0)
                (void)close(fd);
        if (!c || m == MAP_FAILED || size > RANKS_MAX || rank < 0 || rank >= size) {
                free(c);
                return ncclSystemError;
        }
        *c = (struct ncclComm){m, rank, size};
        (void)pthread_mutex_lock(&m->lock);
        if (++m->joined == size)
                (void)shm_unlink(id.internal);
        (void)pthread_cond_broadcast(&m->moved);
        while (m->joined < size)
                (void)pthread_cond_wait(&m->moved, &m->lock);
        (void)pthread_mutex_unlock(&m->lock);
        *ret = c;
        return ncclSuccess;
}

static ncclResult_t emu_ncclCommDestroy(ncclComm_t c)
{
        (void)munmap(c->meeting, sizeof *c->meeting);
        free(c);
        return ncclSuccess;
}

static const char *emu_ncclGetErrorString(ncclResult_t r)
{
        return r == ncclSuccess ? "no error" : "emulated";
}

/* ---- messages */

/* As much as the mailbox has room for, or has; whether that was anything. */
static bool go_on(struct ncclComm *c, struct move *v)
{
        struct mailbox *b = v->send ? &c->meeting->box[c->rank][v->peer] : &c->meeting->box[v->peer][c->rank];
        uint64_t n = v->send ? BOX_BYTES - (b->in - b->out) : b->in - b->out;

        n = n < v->bytes ? n : v->bytes;
        for (uint64_t i = 0; i < n; i++) {
                if (v->send)
                        b->bytes[b->in++ % BOX_BYTES] = v->x[i];
                else
                        v->x[i] = b->bytes[b->out++ % BOX_BYTES];
        }
        v->x += n;
        v->bytes -= n;
        return n > 0;
}

/* Messages of the same direction and peer follow each other. */
static bool is_first(const struct moves *all, int i)
{
        for (int j = 0; j < i; j++)
                if (all->move[j].bytes && all->move[j].send == all->move[i].send &&
                    all->move[j].peer == all->move[i].peer)
                        return false;
        return all->move[i].bytes > 0;
}

static void run(const void *args)
{
        struct moves all = *(const struct moves *)args;
        struct meeting *m = all.comm->meeting;

        for (int i = 0; i < all.n; i++)
                emu_touch(all.move[i].x, all.move[i].bytes, !all.move[i].send);
        (void)pthread_mutex_lock(&m->lock);
        for (bool left = true; left;) {
                bool moved = false;

                left = false;
                for (int i = 0; i < all.n; i++) {
                        if (is_first(&all, i))
                                moved |= go_on(all.comm, &all.move[i]);
                        left |= all.move[i].bytes > 0;
                }
                if (moved)
                        (void)pthread_cond_broadcast(&m->moved);
                else if (left)
                        (void)pthread_cond_wait(&m->moved, &m->lock);
        }
        (void)pthread_mutex_unlock(&m->lock);
}

/* ---- calls: gathered while a group is open */

static int depth; /* of groups */
static struct moves group;
static cudaStream_t group_stream;

static ncclResult_t flush(void)
{
        struct moves all = group;

        group.n = 0;
        return all.n == 0 || emu_enqueue("nccl", run, &all, sizeof all, group_stream) == cudaSuccess
                       ? ncclSuccess
                       : ncclUnhandledCudaError;
}

static size_t size_of(ncclDataType_t type)
{
        return type == ncclFloat64 ? 8 : type == ncclFloat32 ? 4 : 1;
}

static ncclResult_t add(bool send, void *x, size_t bytes, int peer, ncclComm_t c, cudaStream_t s)
{
        if (group.n == MOVES_MAX || (group.n && (group.comm != c || group_stream != s)))
                emu_fault("a group of NCCL has more calls, groups or streams than the stand-in takes");
        group.comm = c;
        group_stream = s;
        group.move[group.n++] = (struct move){send, peer, x, bytes};
        return depth ? ncclSuccess : flush();
}

static ncclResult_t emu_ncclGroupStart(void)
{
        depth++;
        return ncclSuccess;
}

static ncclResult_t emu_ncclGroupEnd(void)
{
        return --depth ? ncclSuccess : flush();
}

static ncclResult_t emu_ncclSend(const void *x, size_t n, ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t s)
{
        return add(true, (void *)x, n * size_of(type), peer, c, s);
}

static ncclResult_t emu_ncclRecv(void *x, size_t n, ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t s)
{
        return add(false, x, n * size_of(type), peer, c, s);
}

/* In place, as it is called here. */
static ncclResult_t emu_ncclBroadcast(const void *from, void *x, size_t n, ncclDataType_t type, int root, ncclComm_t c,
                                      cudaStream_t s)
{
        ncclResult_t r = emu_ncclGroupStart();

        if (from != x)
                emu_fault("the stand-in for NCCL broadcasts in place");
        for (int j = 0; j < c->size && r == ncclSuccess; j++)
                if (j != root && c->rank == root)
                        r = add(true, x, n * size_of(type), j, c, s);
        if (c->rank != root && r == ncclSuccess)
                r = add(false, x, n * size_of(type), root, c, s);
        return r == ncclSuccess ? emu_ncclGroupEnd() : r;
}

int library_load(const struct library **ret, struct error *err)
{
        static const struct library calls = {
#define X(name) .name = emu_##name,
                NCCL_CALLS(X)
#undef X
        };

        (void)err;
        *ret = &calls;
        return 0;
}
