#include "study/snippets.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numeric>
#include <unordered_map>

namespace kvfold {

namespace {

bool has_digit(const std::string& piece) {
    return std::any_of(piece.begin(), piece.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

// "Name", " Name", "camelCase", "snake_case": what names are made of, in texts and in code.
bool is_name_like(const std::string& piece) {
    return std::any_of(piece.begin(), piece.end(),
                       [](unsigned char c) { return std::isupper(c) != 0 || c == '_'; });
}

// A line, or a sentence; "3.5" ends none.
bool ends_sentence(const std::string& piece, const std::string& next) {
    if (piece.find('\n') != std::string::npos) return true;
    const size_t last = piece.find_last_not_of(' ');
    if (last == std::string::npos || std::string_view(".!?;").find(piece[last]) == std::string_view::npos)
        return false;
    return next.empty() || std::isspace(static_cast<unsigned char>(next.front())) != 0;
}

// What a token tells, in nats, roughly: a word that stands once in N tokens log N, one that stands everywhere
// nothing. Digits come back in every number, yet no number can be guessed; names begin with a capital, as
// sentences do.
double information(const std::string& piece, size_t count, size_t total, bool begins_sentence) {
    const double rarest = std::log(static_cast<double>(total));
    if (has_digit(piece)) return 2 * rarest;
    const double rarity = rarest - std::log(static_cast<double>(count));
    return is_name_like(piece) && !begins_sentence ? 1.5 * rarity : rarity;
}

// Of each token.
std::vector<double> information_of(TokenSpan text, const Pieces& pieces) {
    std::unordered_map<llama_token, size_t> counts;
    for (const llama_token token : text)
        ++counts[token];
    std::vector<double> told;
    bool begins_sentence = true;
    std::string piece = pieces(text.front());
    for (size_t i = 0; i < text.size(); ++i) {
        const std::string next = i + 1 < text.size() ? pieces(text[i + 1]) : std::string();
        told.push_back(information(piece, counts[text[i]], text.size(), begins_sentence));
        begins_sentence = ends_sentence(piece, next);
        piece = next;
    }
    return told;
}

// Of each snippet of `length` tokens. Not by differences of prefix sums: rounding would decide between equal
// ones.
std::vector<double> information_of_snippets(const std::vector<double>& told, size_t length) {
    std::vector<double> sums;
    for (auto end = told.begin() + static_cast<std::ptrdiff_t>(length);; ++end) {
        sums.push_back(std::accumulate(end - static_cast<std::ptrdiff_t>(length), end, 0.0));
        if (end == told.end()) return sums;
    }
}

} // namespace

std::vector<Passage> recite_passages(TokenSpan text, const Pieces& pieces, llama_pos behind, size_t count,
                                     std::mt19937_64& rng) {
    const size_t length = std::min(kReciteSnippet, text.size());
    const std::vector<double> told = information_of_snippets(information_of(text, pieces), length);
    std::vector<size_t> order(told.size()); // where snippets begin, the densest first
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return told[a] > told[b]; });

    std::vector<TokenSpan> snippets;
    std::vector<bool> is_taken(text.size());
    for (const size_t begin : order) {
        if (snippets.size() * length >= count) break;
        const auto first = is_taken.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto end = first + static_cast<std::ptrdiff_t>(length);
        if (std::find(first, end, true) != end) continue;
        std::fill(first, end, true);
        snippets.push_back(text.subspan(begin, length));
    }
    return join_snippets(std::move(snippets), behind, rng);
}

} // namespace kvfold
