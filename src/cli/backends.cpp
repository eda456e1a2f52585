#include "cli/backends.h"

#include "model/llama_check.h"

#include <ggml-backend.h>

#include <filesystem>

namespace kvfold::cli {

void load_backends() {
    ggml_backend_load_all();
    if (ggml_backend_dev_count() > 0) return;
    const std::filesystem::path ggml = library_of("ggml_backend_load_all");
    ggml_backend_load_all_from_path(ggml.parent_path().c_str());
}

} // namespace kvfold::cli
