#include "base/shuffle.h"
#include "study/sources.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <unordered_map>

namespace kvfold {

namespace {

constexpr size_t kLongestSpan = 48;

struct Span {
    size_t begin, end;
    double density; // nats a token that it tells, roughly
};

bool has_digit(const std::string& piece) {
    return std::any_of(piece.begin(), piece.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

// "Name", " Name", "camelCase", "snake_case": what names are made of, in texts and in code.
bool is_name_like(const std::string& piece) {
    return std::any_of(piece.begin(), piece.end(),
                       [](unsigned char c) { return std::isupper(c) != 0 || c == '_'; });
}

// A line, or a sentence; "3.5" ends none.
bool ends_span(const std::string& piece, const std::string& next) {
    if (piece.find('\n') != std::string::npos) return true;
    const size_t last = piece.find_last_not_of(' ');
    if (last == std::string::npos || std::string_view(".!?;").find(piece[last]) == std::string_view::npos) return false;
    return next.empty() || std::isspace(static_cast<unsigned char>(next.front())) != 0;
}

// What a token tells: a word that stands once in N tokens log N nats, one that stands everywhere nothing. Digits
// come back in every number, yet no number can be guessed; names begin with a capital, as sentences do.
double information(const std::string& piece, size_t count, size_t total, bool begins_span) {
    const double rarest = std::log(static_cast<double>(total));
    if (has_digit(piece)) return 2 * rarest;
    const double rarity = rarest - std::log(static_cast<double>(count));
    return is_name_like(piece) && !begins_span ? 1.5 * rarity : rarity;
}

std::vector<Span> split_spans(TokenSpan text, const Pieces& pieces) {
    std::unordered_map<llama_token, size_t> counts;
    for (const llama_token token : text)
        ++counts[token];
    constexpr size_t kShortest = 4; // a heading of two rare words is no fact: shorter spans count as this long
    std::vector<Span> spans;
    std::string piece = pieces(text.front());
    double sum = 0;
    for (size_t i = 0, begin = 0; i < text.size(); ++i) {
        const std::string next = i + 1 < text.size() ? pieces(text[i + 1]) : std::string();
        sum += information(piece, counts[text[i]], text.size(), i == begin);
        const size_t length = i + 1 - begin;
        if (ends_span(piece, next) || length == kLongestSpan || i + 1 == text.size()) {
            spans.push_back({begin, i + 1, sum / static_cast<double>(std::max(length, kShortest))});
            begin = i + 1;
            sum = 0;
        }
        piece = next;
    }
    return spans;
}

} // namespace

std::vector<Passage> recite_passages(TokenSpan text, const Pieces& pieces, llama_pos behind, size_t count,
                                     std::mt19937_64& rng) {
    constexpr size_t kPassage = 256;
    std::vector<Span> spans = split_spans(text, pieces);
    std::stable_sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.density > b.density; });
    size_t chosen = 0;
    for (size_t tokens = 0; chosen < spans.size() && tokens < count; ++chosen)
        tokens += spans[chosen].end - spans[chosen].begin;
    shuffle_first(spans, chosen, rng);

    std::vector<Passage> passages;
    for (size_t i = 0; i < chosen; ++i) {
        const TokenSpan span = text.subspan(spans[i].begin, spans[i].end - spans[i].begin);
        if (passages.empty() || passages.back().tokens.size() + span.size() > kPassage)
            passages.push_back({{}, behind});
        auto& tokens = passages.back().tokens;
        tokens.insert(tokens.end(), span.begin(), span.end());
    }
    return passages;
}

} // namespace kvfold
