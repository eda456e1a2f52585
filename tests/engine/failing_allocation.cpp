// In a file of its own: inlined into callers, GCC takes the pairs below for mismatches. The linker is told to
// put __wrap_malloc in the place of malloc for the objects of the test, but not for shared libraries.
#include "engine/failing_allocation.h"

#include "study/query_tap.h"

#include <link.h>
#include <unwind.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

using kvfold::testing::Failing;

std::atomic<Failing> how = Failing::none;
std::atomic<size_t> number = 0, counted = 0, failed = 0;

struct Range {
    uintptr_t begin, end;
};
std::array<Range, 64> llama_code; // where the libraries of llama.cpp are loaded
size_t llama_ranges = 0;

int note_library(dl_phdr_info* info, size_t, void*) {
    if (!std::strstr(info->dlpi_name, "libllama") && !std::strstr(info->dlpi_name, "libggml")) return 0;
    for (int i = 0; i < info->dlpi_phnum && llama_ranges < llama_code.size(); ++i) {
        const auto& header = info->dlpi_phdr[i];
        if (header.p_type != PT_LOAD) continue;
        const uintptr_t begin = info->dlpi_addr + header.p_vaddr;
        llama_code[llama_ranges++] = {begin, begin + header.p_memsz};
    }
    return 0;
}

// From the inside out: the first frame of llama.cpp, or of a callback that it calls, tells.
_Unwind_Reason_Code look_at_frame(_Unwind_Context* context, void* is_llamas) {
    const uintptr_t at = _Unwind_GetIP(context);
    const void* function = _Unwind_FindEnclosingFunction(reinterpret_cast<void*>(at));
    if (function == reinterpret_cast<const void*>(&kvfold::QueryTap::callback)) return _URC_END_OF_STACK;
    for (size_t i = 0; i < llama_ranges; ++i) {
        if (at < llama_code[i].begin || at >= llama_code[i].end) continue;
        *static_cast<bool*>(is_llamas) = true;
        return _URC_END_OF_STACK;
    }
    return _URC_NO_REASON;
}

bool is_llamas() {
    bool found = false;
    _Unwind_Backtrace(look_at_frame, &found);
    return found;
}

bool fails() {
    if (how == Failing::none || counted++ < number) return false;
    thread_local bool looking = false; // the unwinder may allocate
    if (looking) return false;
    looking = true;
    const bool fail = how != Failing::none && !is_llamas();
    looking = false;
    if (!fail) return false;
    if (how == Failing::once) how = Failing::none;
    ++failed;
    return true;
}

} // namespace

void kvfold::testing::fail_allocations(Failing wanted, size_t first) {
    if (llama_ranges == 0) dl_iterate_phdr(note_library, nullptr);
    number = first;
    counted = failed = 0;
    how = wanted;
}

kvfold::testing::Allocations kvfold::testing::stop_failing() {
    how = Failing::none;
    return {counted, failed};
}

extern "C" {
void* __real_malloc(size_t size);
void* __wrap_malloc(size_t size) { return fails() ? nullptr : __real_malloc(size); }
}

void* operator new(size_t size) {
    if (!fails()) {
        if (void* memory = __real_malloc(size)) return memory;
    }
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
