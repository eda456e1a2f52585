// A file descriptor with one owner.
#pragma once

#include <unistd.h>
#include <utility>

namespace kvfold {

class FileDescriptor {
  public:
    explicit FileDescriptor(int fd = -1) : fd_(fd) {}
    FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept {
        if (this != &other) reset(std::exchange(other.fd_, -1));
        return *this;
    }
    ~FileDescriptor() { close(); }

    int get() const { return fd_; }
    int close() { return fd_ >= 0 ? ::close(std::exchange(fd_, -1)) : 0; } // as close(2)
    void reset(int fd = -1) {
        close();
        fd_ = fd;
    }

  private:
    int fd_;
};

} // namespace kvfold
