#include "launch/loads_llama.h"

#ifdef __APPLE__

// Untested. There is no loader to ask; a program without llama.cpp runs as it would without kvfold.
namespace kvfold::launch {
Status check_loads_llama(const std::filesystem::path&) { return {}; }
} // namespace kvfold::launch

#else

#include "base/file_descriptor.h"

#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <fstream>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" char** environ;

namespace kvfold::launch {

namespace {

constexpr std::string_view kLibrary = "libllama.so";
constexpr size_t kLongestInterpreter = 4096;

struct Listing {
    bool succeeded = false;
    std::string text; // what it said on both outputs
};

template <class T> bool read_at(std::istream& file, uint64_t offset, T& out) {
    file.clear();
    file.seekg(static_cast<std::streamoff>(offset));
    return static_cast<bool>(file.read(reinterpret_cast<char*>(&out), sizeof(out)));
}

tl::unexpected<Error> without_llama(const std::string& program, std::string_view why = "") {
    return fail(
        ErrorCode::unsupported,
        "{}{} does not load llama.cpp as a shared library ({}): kvfold can only work inside programs that do; "
        "for one that starts such programs there is kvfold run --children",
        program, why, kLibrary);
}

// The path in PT_INTERP; empty when there is none, as in a static program.
Result<std::string> interpreter_of(std::istream& file, const Elf64_Ehdr& header, const std::string& program) {
    for (unsigned i = 0; i < header.e_phnum; ++i) {
        Elf64_Phdr segment;
        if (!read_at(file, header.e_phoff + uint64_t{i} * header.e_phentsize, segment))
            return fail(ErrorCode::corrupt, "{}: is cut short within its ELF program headers", program);
        if (segment.p_type != PT_INTERP) continue;
        if (segment.p_filesz < 2 || segment.p_filesz > kLongestInterpreter)
            return fail(ErrorCode::corrupt, "{}: its ELF interpreter has {} bytes", program,
                        segment.p_filesz);
        std::string path(segment.p_filesz, '\0');
        file.clear();
        file.seekg(static_cast<std::streamoff>(segment.p_offset));
        if (!file.read(path.data(), static_cast<std::streamsize>(path.size())))
            return fail(ErrorCode::corrupt, "{}: is cut short within its ELF interpreter", program);
        return std::string(path.c_str());
    }
    return std::string();
}

Result<std::string> loader_of(const std::string& program) {
    std::ifstream file(program, std::ios::binary);
    Elf64_Ehdr header = {};
    if (!file) return fail(ErrorCode::io, "{}: cannot be read: {}", program, std::strerror(errno));
    file.read(reinterpret_cast<char*>(&header), sizeof(header));
    if (std::memcmp(header.e_ident, "#!", 2) == 0)
        return fail(ErrorCode::unsupported,
                    "{}: is a script; give the program itself that it starts, or use kvfold run --children",
                    program);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return fail(ErrorCode::unsupported, "{}: is not an ELF program", program);
    if (!file || header.e_ident[EI_CLASS] != ELFCLASS64)
        return fail(ErrorCode::unsupported, "{}: is not a 64-bit ELF program", program);
    KVFOLD_TRY(const std::string loader, interpreter_of(file, header, program));
    if (loader.empty()) return without_llama(program, " is linked statically, so it");
    return loader;
}

std::string read_all(int fd) {
    std::string text;
    char block[4096];
    for (;;) {
        const ssize_t got = ::read(fd, block, sizeof(block));
        if (got > 0) text.append(block, static_cast<size_t>(got));
        if (got == 0 || (got < 0 && errno != EINTR)) return text;
    }
}

// `LOADER --list PROGRAM`: glibc's and musl's loaders print what they would load and run nothing of the
// program.
Result<Listing> list_libraries(const std::string& loader, const std::string& program) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return fail(ErrorCode::io, "no pipe: {}", std::strerror(errno));
    const FileDescriptor reading(ends[0]);
    FileDescriptor writing(ends[1]);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, writing.get(), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, writing.get(), STDERR_FILENO);
    const std::string absolute =
        std::filesystem::absolute(program).string(); // a bare name is no path to a loader
    const char* const words[] = {loader.c_str(), "--list", absolute.c_str(), nullptr};
    pid_t pid = -1;
    const int refused =
        posix_spawn(&pid, loader.c_str(), &actions, nullptr, const_cast<char* const*>(words), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (refused)
        return fail(ErrorCode::io, "{}: its loader {} cannot be started: {}", program, loader,
                    std::strerror(refused));
    writing.reset();
    Listing listing;
    listing.text = read_all(reading.get());
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    listing.succeeded = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return listing;
}

// A line is "\tlibllama.so.0 => /path/to/it (0x7f..)", or "\t/path/to/it (0x7f..)".
bool names_llama(std::string_view line) {
    const size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos) return false;
    std::string_view name = line.substr(begin, line.find(' ', begin) - begin);
    name = name.substr(name.rfind('/') + 1); // npos + 1 = 0
    return name == kLibrary || (name.starts_with(kLibrary) && name[kLibrary.size()] == '.');
}

bool lists_llama(std::string_view text) {
    while (!text.empty()) {
        const size_t end = text.find('\n');
        if (names_llama(text.substr(0, end))) return true;
        text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    }
    return false;
}

} // namespace

Status check_loads_llama(const std::filesystem::path& path) {
    const std::string program = path.string();
    KVFOLD_TRY(const std::string loader, loader_of(program));
    KVFOLD_TRY(const Listing listing, list_libraries(loader, program));
    if (lists_llama(listing.text)) return {};
    if (!listing.succeeded)
        return fail(ErrorCode::unsupported, "{}: its loader cannot list its libraries: {}", program,
                    listing.text.substr(0, listing.text.find('\n')));
    return without_llama(program);
}

} // namespace kvfold::launch

#endif
