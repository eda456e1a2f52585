// Facts that no model knows and sentences that say nothing about them: what texts with something to ask are
// made of. Seeded: the same generator state makes the same text on every machine.
#pragma once

#include <random>
#include <string>
#include <vector>

namespace kvfold {

// Each speaks of people, places and numbers that no other fact and no filler sentence mentions.
struct Fact {
    std::string statement; // "The access code of the Larkspur depot is 482."
    std::string question;  // the same in other words, up to the answer: a sentence to complete
    std::string answer;    // as it stands in the statement
};

inline constexpr size_t kMostFacts = 32;

// Numbers, names, places and relations in turn. REQUIRES: count <= kMostFacts.
std::vector<Fact> make_facts(size_t count, std::mt19937_64& rng);

// One sentence; the same one hardly ever comes twice.
std::string filler_sentence(std::mt19937_64& rng);

} // namespace kvfold
