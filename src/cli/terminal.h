// What a person sees: a progress bar and tables.
#pragma once

#include "base/progress.h"
#include "base/timer.h"

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace kvfold::cli {

bool is_terminal(FILE* stream);

// The text in bold where `stream` is a terminal and NO_COLOR is not set.
std::string bold(FILE* stream, std::string_view text);

// One line on standard error, redrawn in place; nothing at all when standard error is not a terminal.
class ProgressBar {
  public:
    ProgressBar() : visible_(is_terminal(stderr)) {}
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;
    ~ProgressBar() { clear(); }

    // done: 0..1, or negative when unknown.
    void show(std::string_view what, double done);
    void clear();

    // For compact_sequence: shows the stages, prefixed, and cancels when the user interrupts.
    ProgressFn for_compaction(std::string prefix = {});

  private:
    bool visible_;
    bool drawn_ = false;
    std::string what_;
    Timer since_start_;
    double last_drawn_ = -1;
};

// A table whose rows are printed as they come, in columns of fixed width.
class Table {
  public:
    struct Column {
        std::string title;
        int width;
        bool left = false;
    };
    Table(FILE* stream, std::vector<Column> columns) : stream_(stream), columns_(std::move(columns)) {}

    void print_header() const;
    void print_row(const std::vector<std::string>& cells) const;

  private:
    std::string line(const std::vector<std::string>& cells) const;

    FILE* stream_;
    std::vector<Column> columns_;
};

} // namespace kvfold::cli
