// The files that models came from: people tell the processes of a router apart by them.
#pragma once

#include <map>
#include <mutex>
#include <string>

struct llama_model;

namespace kvfold::preload {

class ModelFiles {
  public:
    static ModelFiles& get(); // lives as long as the process

    void note(const llama_model* model, const char* path);

    // From now on this process is known by that model; by none where its file was not noted.
    void show(const llama_model* model);
    std::string shown(); // the file's name without folders and ".gguf"

  private:
    std::mutex mutex_;                                // guards all below
    std::map<const llama_model*, std::string> names_; // a model's address can come back with another file
    std::string shown_;
};

} // namespace kvfold::preload
