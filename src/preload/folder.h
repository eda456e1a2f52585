// The background worker: studies and solves one fold at a time on its snapshot, and hands over what came of
// it.
#pragma once

#include "engine/fold_task.h"

#include <functional>
#include <memory>
#include <thread>

namespace kvfold::preload {

// Not thread-safe but for its own thread: whoever owns it holds a lock.
class Folder {
  public:
    // Called once for each task, in the worker's thread, with its result or what went wrong.
    using Done =
        std::function<void(const FoldTask& task, Result<CompactState> compact, const std::stop_token& stop)>;

    explicit Folder(llama_model* model, Done done) : model_(model), done_(std::move(done)) {}

    const FoldTask* task() const { return task_.get(); } // what runs; null: nothing
    // gives_way: to the program's own threads, and to other programs'. REQUIRES: nothing runs.
    void start(std::unique_ptr<FoldTask> task, bool gives_way);
    void cancel() { worker_.request_stop(); } // what runs ends soon, and is done all the same
    void forget() { task_.reset(); }          // by the one that was told of its end
    void join();                              // without the lock that `done` takes

  private:
    llama_model* model_;
    Done done_;
    std::unique_ptr<FoldTask> task_;
    std::jthread worker_;
};

} // namespace kvfold::preload
