// Asks a real llama.cpp what it would allocate, without allocating: one JSON object of bytes for each line of settings.
//
// usage: probe MODEL.gguf [--mtp] [--lora FILE ...] [ADDRESS ...] < lines
//   --mtp    loads the multi-token-prediction layers; the context is made on them, beside one of the model itself
//   --lora   an adapter; its buffers are told as "lora"
//   ADDRESS  127.0.0.1:PORT of RPC devices, which this program serves itself: they stand in for GPUs
//   line     n_ctx n_batch n_ubatch n_parallel flash_attention type_k type_v swa_full kv_unified n_outputs_max offload_kqv ngl
//            [n_rs_seq]
// prints   {"ok":1,"buffers":{"RPC0[…]":{"model":…,"context":…,"compute":…}, …},"mtp":{…},"lora":{"RPC0[…]":…}} or {"ok":0}
//
// llama_model_params.no_alloc and llama_get_memory_breakdown are those of b11434.
#include "ggml-backend.h"
#include "ggml-rpc.h"
#include "llama-adapter.h"
#include "llama-ext.h"
#include "llama.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

static void drop(ggml_log_level, const char *, void *) {}

static ggml_type type_of(const std::string & name) {
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        const char * n = ggml_type_name((ggml_type) i);
        if (n && name == n) return (ggml_type) i;
    }
    fprintf(stderr, "no type %s\n", name.c_str());
    exit(2);
}

static void print_buffers(const llama_context * context) {
    const char * comma = "";
    for (auto & [type, m] : llama_get_memory_breakdown(context)) {
        printf("%s\"%s\":{\"model\":%zu,\"context\":%zu,\"compute\":%zu}", comma, ggml_backend_buft_name(type), m.model, m.context, m.compute);
        comma = ",";
    }
}

int main(int argc, char ** argv) {
    llama_log_set(drop, nullptr);
    ggml_backend_load_all();
    bool mtp = false;
    std::vector<std::string> adapters;
    std::vector<char *> addresses;
    for (int i = 2; i < argc; i++) {
        const std::string word = argv[i];
        if (word == "--mtp") mtp = true;
        else if (word == "--lora" && i + 1 < argc) adapters.push_back(argv[++i]);
        else addresses.push_back(argv[i]);
    }
    // The servers talk on stdout, hence processes of their own; they end with this one.
    std::vector<pid_t> servers;
    for (char * address : addresses) {
        pid_t child = fork();
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (!freopen("/dev/null", "w", stdout)) _exit(1);
            ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
            ggml_backend_rpc_start_server(address, nullptr, 1, 1, &cpu);
            _exit(0);
        }
        servers.push_back(child);
    }
    for (char * address : addresses) {
        for (int tries = 0; tries < 100; tries++) {
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
            if (ggml_backend_reg_t reg = ggml_backend_rpc_add_server(address)) {
                ggml_backend_register(reg);
                break;
            }
        }
    }
    llama_backend_init();
    llama_model * model = nullptr;
    int loaded_ngl = -1;
    std::string line;
    while (std::getline(std::cin, line)) {
        std::stringstream words(line);
        int n_ctx, n_batch, n_ubatch, n_seq, fa, swa_full, unified, n_outputs, offload, ngl;
        std::string type_k, type_v;
        int n_rs_seq = 0;
        if (!(words >> n_ctx >> n_batch >> n_ubatch >> n_seq >> fa >> type_k >> type_v >> swa_full >> unified >> n_outputs >> offload >> ngl)) continue;
        words >> n_rs_seq;
        if (!model || ngl != loaded_ngl) {
            if (model) llama_model_free(model);
            auto mp = llama_model_default_params();
            mp.n_gpu_layers = ngl;
            mp.no_alloc = true;
            mp.load_mode = LLAMA_LOAD_MODE_NONE;
            mp.load_mtp = mtp;
            model = llama_model_load_from_file(argv[1], mp);
            if (!model) return 1;
            loaded_ngl = ngl;
        }
        auto cp = llama_context_default_params();
        cp.n_ctx = n_ctx;
        cp.n_batch = n_batch;
        cp.n_ubatch = n_ubatch;
        cp.n_seq_max = n_seq;
        cp.flash_attn_type = (llama_flash_attn_type) fa;
        cp.type_k = type_of(type_k);
        cp.type_v = type_of(type_v);
        cp.swa_full = swa_full;
        cp.kv_unified = unified;
        cp.n_outputs_max = n_outputs;
        cp.offload_kqv = offload;
        cp.n_rs_seq = n_rs_seq;
        llama_context * context = llama_init_from_model(model, cp);
        printf("{\"ok\":%d,\"buffers\":{", context ? 1 : 0);
        if (context) {
            print_buffers(context);
            if (mtp) {
                // As common_speculative_init_from_params makes it.
                cp.ctx_type = LLAMA_CONTEXT_TYPE_MTP;
                cp.n_ctx = llama_n_ctx(context);
                cp.n_rs_seq = 0;
                cp.n_outputs_max = n_seq;
                cp.type_k = cp.type_v = GGML_TYPE_F16;
                cp.ctx_other = context;
                printf("},\"mtp\":{");
                llama_context * second = llama_init_from_model(model, cp);
                if (second) {
                    print_buffers(second);
                    llama_free(second);
                }
            }
            printf("},\"lora\":{");
            const char * comma = "";
            for (auto & file : adapters) {
                llama_adapter_lora * adapter = llama_adapter_lora_init(model, file.c_str());
                if (!adapter) return 1;
                for (auto & buffer : adapter->bufs) {
                    printf("%s\"%s\":%zu", comma, ggml_backend_buffer_name(buffer.get()), ggml_backend_buffer_get_size(buffer.get()));
                    comma = ",";
                }
                llama_adapter_lora_free(adapter);
            }
            llama_free(context);
        }
        printf("}}\n");
        fflush(stdout);
    }
    for (pid_t server : servers) kill(server, SIGKILL);
    return 0;
}
