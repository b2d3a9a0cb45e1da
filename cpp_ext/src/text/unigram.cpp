// The likeliest way to cut a text into words that have a probability each (SentencePiece; Kudo
// 2018), by dynamic programming over the bytes where a word may end.
#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include "rules.h"
#include "vocabulary.h"

namespace flagdit::text {
namespace {

constexpr double kUnknownPenalty = 10;

struct Best {  // way to a place
  double score = 0;
  size_t begin = 0;
  bool reached = false, unknown = false;
};

class Unigram : public Model {
 public:
  explicit Unigram(const Json& model) : falls_back_(model.value("byte_fallback", false)) {
    int64_t id = 0;
    for (const Json& word : model.at("vocab")) {
      if (!word.is_array() || word.size() != 2) throw std::invalid_argument("a word has no score");
      const double score = word[1].get<double>();
      words_.add(word[0].get<std::string>(), id++);
      scores_.push_back(score);
      least_ = std::min(least_, score);
    }
    words_.sort();
    const auto unknown = model.find("unk_id");
    if (unknown != model.end() && !unknown->is_null()) {
      unknown_ = unknown->get<int64_t>();
      if (*unknown_ < 0 || *unknown_ >= id)
        throw std::invalid_argument("its unknown word is none of its words");
    }
  }

  int64_t id(std::string_view token) const override { return words_.id(token); }
  int64_t size() const override { return static_cast<int64_t>(scores_.size()); }

  void append(std::string_view piece, std::vector<int64_t>& ids) const override {
    for (const std::string_view word : cut(piece)) {
      const int64_t id = words_.id(word);
      if (id >= 0) {
        ids.push_back(id);
      } else if (!falls_back_ || !words_.append_bytes(word, ids)) {
        ids.push_back(unknown());
      }
    }
  }

 private:
  int64_t unknown() const {
    if (!unknown_) throw std::runtime_error("it has no word for what is unknown");
    return *unknown_;
  }

  std::vector<std::string_view> cut(std::string_view piece) const {
    const std::vector<Best> ways = best(piece);
    std::vector<std::string_view> words;
    size_t end_of_unknown = 0;
    bool fusing = false;
    for (size_t end = piece.size(); end > 0; end = ways[end].begin) {
      const Best& way = ways[end];
      if (way.unknown && !fusing) end_of_unknown = end;
      if (!way.unknown && fusing) words.push_back(piece.substr(end, end_of_unknown - end));
      if (!way.unknown) words.push_back(piece.substr(way.begin, end - way.begin));
      fusing = way.unknown;
    }
    if (fusing) words.push_back(piece.substr(0, end_of_unknown));
    std::reverse(words.begin(), words.end());
    return words;
  }

  // Of every place in a piece, where the last word of the likeliest way to it begins.
  std::vector<Best> best(std::string_view piece) const {
    std::vector<Best> ways(piece.size() + 1);
    for (size_t begin = 0, next = 0; begin < piece.size(); begin = next) {
      do {
        ++next;
      } while (next < piece.size() && (static_cast<unsigned char>(piece[next]) & 0xC0) == 0x80);
      const double score = ways[begin].score;
      bool single = false;
      Vocabulary::Prefix found = words_.begin();
      for (size_t end = begin + 1; end <= piece.size() && found.read(piece[end - 1]); ++end) {
        const int64_t id = found.id();
        if (id < 0) continue;
        reach(ways[end], begin, score + scores_[id], unknown_ && id == *unknown_);
        single = single || end == next;
      }
      if (!single) {
        unknown();
        reach(ways[next], begin, (least_ - kUnknownPenalty) + score, true);
      }
    }
    return ways;
  }

  static void reach(Best& way, size_t begin, double score, bool unknown) {
    if (!way.reached || score > way.score) way = {score, begin, true, unknown};
  }

  Vocabulary words_;
  std::vector<double> scores_;
  double least_ = std::numeric_limits<double>::infinity();
  std::optional<int64_t> unknown_;
  const bool falls_back_;
};

}  // namespace

std::unique_ptr<Model> read_unigram(const Json& model) { return std::make_unique<Unigram>(model); }

}  // namespace flagdit::text
