// Judges of answers that a cache writes by itself. Those of one kind share a figure.
#pragma once

#include <string_view>

namespace kvfold {

struct Judge {
    std::string_view key;                                              // of the figure in JSON
    std::string_view title;                                            // for people
    std::string_view about;                                            // what the figure is, in a few words
    double (*score)(std::string_view written, std::string_view right); // 0: wrong, 1: right
};

namespace judges {

// F1 of the words, as SQuAD counts it: in lower case, without punctuation and articles, in any order.
extern const Judge words;

// Whether the written call's arguments are the right ones, white space aside: from the first parenthesis to
// the one that closes it.
extern const Judge call;

// Whether the first object in what is written equals the right one as JSON: keys in any order.
extern const Judge json;

} // namespace judges

} // namespace kvfold
