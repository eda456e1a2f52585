#include "launch/find_program.h"

#include <cstdlib>
#include <optional>
#include <string_view>
#include <unistd.h>

#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

namespace kvfold::launch {

namespace fs = std::filesystem;

namespace {

#ifdef __APPLE__
constexpr const char* kLibrary = "libkvfold-preload.dylib";
#else
constexpr const char* kLibrary = "libkvfold-preload.so";
#endif

std::string_view variable(const char* name) {
    const char* const value = std::getenv(name);
    return value ? value : "";
}

bool is_file(const fs::path& path) {
    std::error_code ignored;
    return fs::is_regular_file(path, ignored);
}

bool is_program(const fs::path& path) { return is_file(path) && access(path.c_str(), X_OK) == 0; }

std::optional<fs::path> in_path(const std::string& name) {
    std::string_view rest = variable("PATH");
    while (!rest.empty()) {
        const size_t colon = rest.find(':');
        const std::string_view folder = rest.substr(0, colon);
        const fs::path candidate = fs::path(folder.empty() ? "." : folder) / name;
        if (is_program(candidate)) return candidate;
        rest = colon == std::string_view::npos ? std::string_view() : rest.substr(colon + 1);
    }
    return std::nullopt;
}

fs::path this_program() {
    std::error_code ignored;
#ifdef __APPLE__ // untested
    char path[4096];
    uint32_t size = sizeof(path);
    return _NSGetExecutablePath(path, &size) == 0 ? fs::canonical(path, ignored) : fs::path();
#else
    return fs::read_symlink("/proc/self/exe", ignored);
#endif
}

} // namespace

Result<fs::path> find_program(const std::string& name) {
    if (name.find('/') == std::string::npos) {
        if (const auto found = in_path(name)) return *found;
        return fail(ErrorCode::io, "{}: no such program in PATH", name);
    }
    std::error_code ignored;
    if (is_program(name)) return fs::path(name);
    if (fs::is_directory(name, ignored)) return fail(ErrorCode::io, "{}: is a folder, not a program", name);
    if (!is_file(name)) return fail(ErrorCode::io, "{}: no such program", name);
    return fail(ErrorCode::io, "{}: is not executable", name);
}

Result<fs::path> find_llama_server() {
    constexpr const char* name = "llama-server";
    if (const std::string_view prefix = variable("KVFOLD_LLAMA_PREFIX"); !prefix.empty()) {
        const fs::path wanted = fs::path(prefix) / "bin" / name;
        if (is_program(wanted)) return wanted;
        return fail(ErrorCode::io, "{}: no such program; KVFOLD_LLAMA_PREFIX says to look there",
                    wanted.string());
    }
    const fs::path built_against = KVFOLD_LLAMA_PREFIX_DEFAULT;
    if (!built_against.empty() && is_program(built_against / "bin" / name))
        return built_against / "bin" / name;
    if (const auto found = in_path(name)) return *found;
    return fail(ErrorCode::io,
                "no llama-server in {}PATH; set KVFOLD_LLAMA_PREFIX to the prefix of a llama.cpp",
                built_against.empty() ? "" : (built_against / "bin").string() + " nor in ");
}

Result<fs::path> find_preload_library() {
    std::error_code ignored;
    if (const std::string_view given = variable("KVFOLD_PRELOAD_LIBRARY"); !given.empty()) {
        if (is_file(given)) return fs::absolute(given, ignored);
        return fail(ErrorCode::io, "{}: no such library; KVFOLD_PRELOAD_LIBRARY names it", given);
    }
    const fs::path prefix = this_program().parent_path().parent_path();
    const fs::path lib = prefix / "lib";
    for (const fs::path& folder :
         {lib, prefix / KVFOLD_INSTALL_LIBDIR, lib / KVFOLD_MULTIARCH, prefix / "lib64"})
        if (is_file(folder / kLibrary)) return folder / kLibrary;
    return fail(ErrorCode::io, "{}: no such library; install kvfold with its preload library",
                (lib / kLibrary).string());
}

} // namespace kvfold::launch
