#include "flagdit/request.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <random>

#include "flagdit/error.h"

namespace flagdit {
namespace {

[[noreturn]] void refuse(const std::string& text) { throw Error(Fault::request, text); }

const std::string& seed_bounds() {
  static const std::string text = "; allowed are 0 to 18446744073709551615 (2^64 - 1)";
  return text;
}

void check_count(const Request& request) {
  const size_t prompts = request.prompts.size();
  if (prompts == 0) refuse("there is no prompt; give at least one");
  if (prompts > static_cast<size_t>(kMostPictures)) {
    refuse("there are " + std::to_string(prompts) + " prompts; allowed are 1 to " +
           std::to_string(kMostPictures) + " at a time");
  }
  if (request.seeds.size() != prompts) {
    refuse(std::to_string(prompts) + " prompts and " + std::to_string(request.seeds.size()) +
           " seeds; give one seed per prompt");
  }
}

bool is_digits(const std::string& text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

void check_negative(const std::string& negative, const Number& guidance) {
  if (negative.empty()) return;
  if (is_blank(negative)) {
    refuse("the negative prompt is blank; leave it out, or say what the picture should not show");
  }
  if (guidance == 1) {
    refuse(
        "there is a negative prompt and guidance is 1, which turns it off; give another "
        "guidance");
  }
}

void check_skips(const std::optional<SkipLayerGuidance>& skips, const Number& guidance) {
  if (!skips) return;
  check(*skips);
  if (guidance == 1) {
    refuse("skip_layer_guidance is " + text_of(skips->scale) +
           " and guidance is 1, which turns it off; give another guidance");
  }
}

void check_embeds(const Request& request, const Sampling& sampling) {
  if (request.embeds.empty()) {
    if (!request.negative_embeds.empty())
      refuse("there are negative_embeds and no embeds; give both, or a negative prompt");
    return;
  }
  const size_t prompts = request.prompts.size();
  if (request.embeds.size() != prompts)
    refuse("there are embeds of " + std::to_string(request.embeds.size()) + " pictures and " +
           std::to_string(prompts) + " prompts; give embeds of each, or leave the prompts out");
  if (!request.negative.empty())
    refuse("there are embeds and a negative prompt; give negative_embeds");
  if (sampling.branches() == 2 && request.negative_embeds.empty())
    refuse("there are embeds, and guidance is " + text_of(sampling.guidance) +
           ", which leads away from something: give negative_embeds, those of an empty text as a "
           "rule, or a guidance of 1");
}

}  // namespace

Sampling sampling_of(const Request& request, const Model& model) {
  std::optional<Size> size = request.size;
  if (!size && request.canvas) size = Size{request.canvas->width, request.canvas->height};
  const int64_t patches = layout_of(model, size).patches();
  return {resolve(request.options, presets_of(model, size), shift_at(model, patches)),
          request.guidance.value_or(model.guidance)};
}

void check(const Request& request, const Sampling& sampling) {
  check_count(request);
  const Number& guidance = sampling.guidance;
  if (!(guidance >= 0 && guidance <= 100)) {
    refuse("guidance is " + text_of(guidance) + "; allowed are 0 to 100, 1 turns it off");
  }
  check_negative(request.negative, guidance);
  check_skips(request.skip_layer_guidance, guidance);
  check_embeds(request, sampling);
  check_ntk(request.ntk);
  const std::optional<Coarse>& coarse = sampling.how.coarse;
  if (coarse && sampling.how.regions.paper()) {
    refuse("paper mode does not begin coarse: the published code has one size; leave coarse out");
  }
  if (coarse && coarse->factor == 1) {
    refuse("the factor of coarse is 1, which is none; leave coarse out");
  }
}

uint64_t seed_of(const std::string& text) {
  const bool negative = !text.empty() && text.front() == '-';
  const std::string digits = negative ? text.substr(1) : text;
  if (!is_digits(digits)) refuse_seed(quoted(text));
  errno = 0;
  const unsigned long long seed = std::strtoull(digits.c_str(), nullptr, 10);
  static_assert(sizeof seed == sizeof(uint64_t));
  if (errno != 0 || (negative && seed != 0)) {
    refuse("seed " + text + " is out of bounds" + seed_bounds());
  }
  return seed;
}

void refuse_seed(const std::string& quoted) {
  refuse("seed " + quoted + " is no integer" + seed_bounds());
}

uint64_t drawn_seed() {
  std::random_device device;
  return device() & 0xffffffffu;
}

}  // namespace flagdit
