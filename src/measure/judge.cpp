#include "measure/judge.h"

#include "base/json.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <string>

namespace kvfold {

namespace {

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

bool is_article(std::string_view word) { return word == "a" || word == "an" || word == "the"; }

// How often each word comes, in lower case, without punctuation and articles.
std::map<std::string, int> counted_words(std::string_view text) {
    std::map<std::string, int> counts;
    std::string word;
    const auto finish = [&] {
        if (!word.empty() && !is_article(word)) ++counts[word];
        word.clear();
    };
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (is_space(c))
            finish();
        else if (!std::ispunct(byte))
            word += static_cast<char>(std::tolower(byte));
    }
    finish();
    return counts;
}

int total(const std::map<std::string, int>& counts) {
    int sum = 0;
    for (const auto& [word, count] : counts)
        sum += count;
    return sum;
}

double words_f1(std::string_view written, std::string_view right) {
    const auto given = counted_words(written), wanted = counted_words(right);
    int shared = 0;
    for (const auto& [word, count] : wanted) {
        if (const auto found = given.find(word); found != given.end())
            shared += std::min(count, found->second);
    }
    const int all = total(given) + total(wanted);
    return all == 0 ? 1 : 2.0 * shared / all;
}

// Calls `see` with each character and whether it stands in a string, until it returns false.
template <class See> void scan(std::string_view text, See see) {
    char quote = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        const bool inside = quote != 0;
        if (inside && c == '\\' && i + 1 < text.size()) {
            if (!see(i, true) || !see(++i, true)) return;
            continue;
        }
        if (inside && c == quote)
            quote = 0;
        else if (!inside && (c == '"' || c == '\''))
            quote = c;
        if (!see(i, inside || quote != 0)) return;
    }
}

// From the first `open` to the `close` that belongs to it; empty without one.
std::string_view bracketed(std::string_view text, char open, char close) {
    text.remove_prefix(std::min(text.find(open), text.size()));
    int depth = 0;
    size_t length = 0;
    scan(text, [&](size_t i, bool quoted) {
        if (quoted) return true;
        depth += text[i] == open ? 1 : text[i] == close ? -1 : 0;
        if (depth > 0) return true;
        length = i + 1;
        return false;
    });
    return text.substr(0, length);
}

std::string without_space(std::string_view text) {
    std::string kept;
    scan(text, [&](size_t i, bool quoted) {
        if (quoted || !is_space(text[i])) kept += text[i];
        return true;
    });
    return kept;
}

double same_call(std::string_view written, std::string_view right) {
    const std::string given = without_space(bracketed(written, '(', ')'));
    return !given.empty() && given == without_space(bracketed(right, '(', ')'));
}

double same_json(std::string_view written, std::string_view right) {
    const Json given = parse_json(bracketed(written, '{', '}'));
    return !given.is_discarded() && given == parse_json(right);
}

} // namespace

const Judge judges::words = {
    .key = "f1",
    .title = "F1",
    .about = "of the words that the cache writes itself, against the answer's",
    .score = words_f1,
};

const Judge judges::call = {
    .key = "match",
    .title = "match",
    .about = "calls written by the cache itself whose arguments are all right",
    .score = same_call,
};

const Judge judges::json = {
    .key = "match",
    .title = "match",
    .about = judges::call.about,
    .score = same_json,
};

} // namespace kvfold
