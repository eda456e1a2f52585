// Writes the seeds of the fuzz target archive:
//   fuzz_make_archive_seeds FOLDER
#include "base/file.h"
#include "support/stored_folds.h"

#include <cstdio>

using kvfold::testing::ArchivedCache;

int main(int argc, char** argv) {
    if (argc != 2) return std::fprintf(stderr, "usage: fuzz_make_archive_seeds FOLDER\n"), 2;
    const std::pair<const char*, ArchivedCache> seeds[] = {
        {"f16", {}},
        {"one_fold", {.folds = 1}},
        {"transposed", {.transposed = true}},
        {"extra", {.extra = true}},
        {"q8_0_q4_0", {.key_type = GGML_TYPE_Q8_0, .value_type = GGML_TYPE_Q4_0, .width = 64}},
        {"one_head", {.heads = 1, .layers = 1}},
        {"f32", {.key_type = GGML_TYPE_F32, .value_type = GGML_TYPE_F32, .width = 4}},
    };
    for (const auto& [name, cache] : seeds) {
        const auto bytes = kvfold::testing::archive_bytes(kvfold::testing::stored_folds_of(cache));
        const auto written = kvfold::write_file(std::string(argv[1]) + "/" + name + ".archive", bytes);
        if (!written) return std::fprintf(stderr, "%s\n", written.error().message.c_str()), 1;
    }
    return 0;
}
