#include "cli/terminal.h"

#include "base/format.h"
#include "cli/interrupt.h"

#include <algorithm>
#include <cstdlib>
#include <unistd.h>

namespace kvfold::cli {

namespace {

constexpr double kSecondsBetweenDraws = 0.1;
constexpr int kBarWidth = 30;

const char* stage_name(Stage stage) {
    switch (stage) {
    case Stage::snapshot:
        return "snapshot";
    case Stage::study:
        return "study";
    case Stage::draft:
        return "draft";
    case Stage::solve:
        return "solve";
    case Stage::swap:
        return "swap";
    }
    return "work";
}

} // namespace

bool is_terminal(FILE* stream) { return isatty(fileno(stream)) == 1; }

std::string bold(FILE* stream, std::string_view text) {
    const char* no_color = std::getenv("NO_COLOR");
    const bool plain = !is_terminal(stream) || (no_color && *no_color);
    return plain ? std::string(text) : kvfold::format("\033[1m{}\033[0m", text);
}

void ProgressBar::show(std::string_view what, double done) {
    if (!visible_) return;
    const double now = since_start_.seconds();
    if (what == what_ && done < 1 && last_drawn_ >= 0 && now - last_drawn_ < kSecondsBetweenDraws) return;
    what_ = what;
    last_drawn_ = now;
    drawn_ = true;
    if (done < 0) {
        kvfold::print(stderr, "\r\033[K{} ...", what);
    } else {
        const int filled = static_cast<int>(std::clamp(done, 0.0, 1.0) * kBarWidth);
        kvfold::print(stderr, "\r\033[K[{:<{}}] {:3.0f}%  {}", std::string(static_cast<size_t>(filled), '#'),
                      kBarWidth, 100 * done, what);
    }
    std::fflush(stderr);
}

void ProgressBar::clear() {
    if (!drawn_) return;
    kvfold::print(stderr, "\r\033[K");
    std::fflush(stderr);
    drawn_ = false;
    what_.clear();
}

ProgressFn ProgressBar::for_compaction(std::string prefix) {
    return [this, prefix = std::move(prefix)](Stage stage, float done) {
        show(prefix + stage_name(stage), static_cast<double>(done));
        return !interrupted();
    };
}

std::string Table::line(const std::vector<std::string>& cells) const {
    std::string text;
    for (size_t i = 0; i < columns_.size(); ++i) {
        const auto& [title, width, left] = columns_[i];
        text += i == 0 ? "" : "  ";
        text += left ? kvfold::format("{:<{}}", cells[i], width) : kvfold::format("{:>{}}", cells[i], width);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
}

void Table::print_header() const {
    std::vector<std::string> titles;
    for (const Column& column : columns_)
        titles.push_back(column.title);
    kvfold::print(stream_, "{}\n", bold(stream_, line(titles)));
    std::fflush(stream_);
}

void Table::print_row(const std::vector<std::string>& cells) const {
    kvfold::print(stream_, "{}\n", line(cells));
    std::fflush(stream_);
}

} // namespace kvfold::cli
