// The entry of libFuzzer. KVFOLD_FUZZED is the function that says what is wrong with some bytes.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>

namespace kvfold::testing {
std::string KVFOLD_FUZZED(std::span<const uint8_t> bytes);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string wrong = kvfold::testing::KVFOLD_FUZZED(std::span(data, size));
    if (!wrong.empty()) {
        std::fprintf(stderr, "%s\n", wrong.c_str());
        std::abort();
    }
    return 0;
}
