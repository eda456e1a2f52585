#include "preload/model_files.h"

#include <filesystem>

namespace kvfold::preload {

ModelFiles& ModelFiles::get() {
    static ModelFiles* const files = new ModelFiles; // never destroyed: threads may outlive main()
    return *files;
}

void ModelFiles::note(const llama_model* model, const char* path) {
    if (model == nullptr || path == nullptr) return;
    const std::filesystem::path file = std::filesystem::path(path).filename();
    const std::lock_guard lock(mutex_);
    names_[model] = (file.extension() == ".gguf" ? file.stem() : file).string();
}

void ModelFiles::show(const llama_model* model) {
    const std::lock_guard lock(mutex_);
    const auto found = names_.find(model);
    shown_ = found == names_.end() ? std::string() : found->second;
}

std::string ModelFiles::shown() {
    const std::lock_guard lock(mutex_);
    return shown_;
}

} // namespace kvfold::preload
