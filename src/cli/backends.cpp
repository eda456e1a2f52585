#include "cli/backends.h"

#include <ggml-backend.h>

#include <dlfcn.h>
#include <filesystem>

namespace kvfold::cli {

void load_backends() {
    ggml_backend_load_all();
    if (ggml_backend_dev_count() > 0) return;
    Dl_info library;
    if (dladdr(reinterpret_cast<const void*>(&ggml_backend_load_all), &library) == 0) return;
    ggml_backend_load_all_from_path(std::filesystem::path(library.dli_fname).parent_path().c_str());
}

} // namespace kvfold::cli
