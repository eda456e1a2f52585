#include "preload/environment.h"

#include "launch/settings.h"

#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>

namespace kvfold::preload {

namespace {

constexpr std::string_view kSeparators = ": ";

bool same_file(std::string_view entry, const std::filesystem::path& library) {
    std::error_code error; // of an entry that is only a name, or of a file that is gone
    return entry == library.native() || std::filesystem::equivalent(entry, library, error);
}

} // namespace

std::string without_library(std::string_view libraries, const std::filesystem::path& library) {
    std::string others;
    for (size_t begin = 0; begin < libraries.size();) {
        const size_t end = std::min(libraries.find_first_of(kSeparators, begin), libraries.size());
        const std::string_view entry = libraries.substr(begin, end - begin);
        if (!entry.empty() && !same_file(entry, library)) {
            if (!others.empty()) others += libraries[begin - 1];
            others += entry;
        }
        begin = end + 1;
    }
    return others;
}

void leave_environment() {
    const char* const libraries = std::getenv(launch::kLibrariesVariable);
    Dl_info own = {};
    if (libraries == nullptr || ::dladdr(reinterpret_cast<const void*>(&leave_environment), &own) == 0)
        return;
    const std::string others = without_library(libraries, own.dli_fname);
    if (others.empty())
        ::unsetenv(launch::kLibrariesVariable);
    else
        ::setenv(launch::kLibrariesVariable, others.c_str(), /*overwrite=*/1);
}

} // namespace kvfold::preload
