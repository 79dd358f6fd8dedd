// A device of a stated size for llama.cpp's RPC backend: what this machine computes and holds for it is the CPU's, its memory is counted and ends.
//
// usage: rpc_device BYTES HOST:PORT...
//   BYTES      what the device says that it has; an allocation past it is refused, as a GPU refuses it
//   HOST:PORT  where it is served. An RPC server answers one engine at a time: as many engines share the device as there are addresses
// prints "holds N" after every allocation and release: the bytes that all engines together have allocated now
//
// The interfaces that are replaced here are those of b11434 (ggml-backend-impl.h).
#include "ggml-backend-impl.h"
#include "ggml-backend.h"
#include "ggml-rpc.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

// Shared by the processes that serve the addresses.
static std::atomic<size_t> * held;
static size_t capacity;
static ggml_backend_buffer_type counted_type;
static ggml_backend_buffer_t (*allocate)(ggml_backend_buffer_type_t, size_t);
static void (*release)(ggml_backend_buffer_t);

static void tell(size_t bytes) {
    printf("holds %zu\n", bytes);
    fflush(stdout);
}

static void counted_free(ggml_backend_buffer_t buffer) {
    const size_t size = buffer->size;
    release(buffer);
    tell(held->fetch_sub(size) - size);
}

static ggml_backend_buffer_t counted_allocate(ggml_backend_buffer_type_t type, size_t size) {
    const size_t before = held->fetch_add(size);
    ggml_backend_buffer_t buffer = before + size <= capacity ? allocate(type, size) : nullptr;
    if (!buffer) {
        held->fetch_sub(size);
        return nullptr;
    }
    release = buffer->iface.free_buffer;
    buffer->iface.free_buffer = counted_free;
    tell(before + size);
    return buffer;
}

int main(int argc, char ** argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s BYTES HOST:PORT...\n", argv[0]);
        return 2;
    }
    capacity = strtoull(argv[1], nullptr, 10);
    held = new (mmap(nullptr, sizeof *held, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) std::atomic<size_t>(0);

    ggml_backend_load_all();
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    counted_type = *ggml_backend_dev_buffer_type(device);
    allocate = counted_type.iface.alloc_buffer;
    counted_type.iface.alloc_buffer = counted_allocate;
    device->iface.get_buffer_type = [](ggml_backend_dev_t) { return &counted_type; };
    device->iface.get_memory = [](ggml_backend_dev_t, size_t * free, size_t * total) {
        *total = capacity;
        *free = capacity - held->load();
    };

    for (int i = 2; i < argc; i++) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            ggml_backend_rpc_start_server(argv[i], nullptr, 1, 1, &device);
            _exit(1);
        }
    }
    // It serves until it is killed; a server that ends could not listen.
    wait(nullptr);
    return 1;
}
