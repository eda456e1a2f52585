#include "preload/folder.h"

#include "base/no_throw.h"
#include "engine/compact.h"
#include "preload/heap.h"
#include "preload/real.h"

#ifdef __linux__
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace kvfold::preload {

namespace {

// Study and solve give way to the program's own decoding. Threads started from here inherit it.
void give_way() {
#ifdef __linux__
    constexpr int kNice = 10;
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kNice);
#endif
}

} // namespace

void Folder::start(std::unique_ptr<FoldTask> task, bool gives_way) {
    join(); // the thread of the task before; it has ended, or is about to
    task_ = std::move(task);
    worker_ = std::jthread([this, task = task_.get(), gives_way](const std::stop_token& stop) {
        const Inside inside;
        if (gives_way) give_way();
        Result<CompactState> compact = without_throwing([&] {
            task->request.progress = [&stop](Stage, float) { return !stop.stop_requested(); };
            return compact_state(model_, task->snapshot, task->request);
        });
        done_(*task, std::move(compact), stop);
        give_memory_back();
    });
}

void Folder::join() {
    if (worker_.joinable()) worker_.join();
}

} // namespace kvfold::preload
