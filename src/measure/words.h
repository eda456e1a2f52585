// The words that made-up texts draw from. Seeded: the same generator state draws the same words on every
// machine.
#pragma once

#include "base/shuffle.h"

#include <array>
#include <numeric>
#include <random>
#include <span>
#include <string_view>
#include <vector>

namespace kvfold {

using Words = std::span<const std::string_view>;

inline constexpr std::array<std::string_view, 40> kPeople = {
    "Agnes",  "Boris",  "Clara",  "Dimitri", "Edda",   "Felix",  "Greta",  "Hugo",   "Irene",  "Jasper",
    "Katrin", "Lionel", "Mabel",  "Nestor",  "Olga",   "Pascal", "Quinn",  "Rosa",   "Silas",  "Tilda",
    "Ursula", "Viktor", "Wanda",  "Xavier",  "Yvonne", "Zelda",  "Anton",  "Bertha", "Cyril",  "Dora",
    "Emil",   "Fiona",  "Gustav", "Helga",   "Ivan",   "Judith", "Konrad", "Lydia",  "Magnus", "Nora"};
inline constexpr std::array<std::string_view, 16> kTowns = {
    "Lisbon", "Oslo",   "Geneva", "Cairo",  "Dublin", "Vienna", "Boston",  "Prague",
    "Athens", "Madrid", "Tokyo",  "Berlin", "Havana", "Naples", "Glasgow", "Warsaw"};

// Words of a list in random order, each once. REQUIRES: no more draws than words.
class Deck {
  public:
    Deck(Words words, std::mt19937_64& rng) : words_(words.begin(), words.end()) {
        shuffle_first(words_, words_.size(), rng);
    }
    std::string_view draw() { return words_[next_++]; }

  private:
    std::vector<std::string_view> words_;
    size_t next_ = 0;
};

// The whole numbers from `first` to before `end` in random order, each once. REQUIRES: no more draws than
// numbers.
class Numbers {
  public:
    Numbers(int first, int end, std::mt19937_64& rng) : numbers_(static_cast<size_t>(end - first)) {
        std::iota(numbers_.begin(), numbers_.end(), first);
        shuffle_first(numbers_, numbers_.size(), rng);
    }
    int draw() { return numbers_[next_++]; }

  private:
    std::vector<int> numbers_;
    size_t next_ = 0;
};

} // namespace kvfold
