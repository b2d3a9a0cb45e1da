#include "flagdit/resolve.h"

#include <algorithm>
#include <set>
#include <utility>

#include "flagdit/error.h"

namespace flagdit {
namespace {

using Names = std::set<std::string>;

// Fields that say how much each step computes: what
// was calibrated for other steps does not hold then.
const Names& planned() {
  static const Names names{"ratio",  "ratio_end", "skip_step", "skip_every",
                           "warmup", "resets",    "end"};
  return names;
}

// Fields that do something to a dense run, too; `warmup` and `resets` say when both branches run.
bool acts(const std::string& name, bool every_step) {
  static const Names names{"mode",       "ratio",          "ratio_end",      "skip_step",
                           "skip_every", "guidance_every", "guidance_warmup"};
  return names.count(name) > 0 || (!every_step && (name == "warmup" || name == "resets"));
}

[[noreturn]] void refuse(const std::string& text) { throw Error(Fault::request, text); }

// What paper mode begins with: no preset has anything to say of it.
Preset paper_preset() {
  Preset out{int64_t{30}, Solver::euler, {}};
  out.regions.mode = Mode::paper;
  return out;
}

bool is_paper(const Options& options) {
  return options.mode == Mode::paper || (options.regions && options.regions->paper());
}

Regions read(const Changes& changes) {
  Regions out;
  for (const auto& [name, value] : changes) set_field(out, name, value);
  return out;
}

void check_once(const char* name, bool twice) {
  if (twice) {
    refuse(std::string(name) +
           " is said twice, by an option of its own and among those of ras; say it once");
  }
}

bool is_number(const Value* value) {
  return value != nullptr &&
         (std::holds_alternative<Number>(*value) || std::holds_alternative<bool>(*value));
}

// Mode, ratio and schedule among the changes as the options that they are.
Options by_name(Options options) {
  if (options.regions) return options;
  Changes& changes = options.changes;
  const Regions said = read(changes);
  const auto has = [&](const char* name) { return find(changes, name) != nullptr; };
  const Mode mode = has("mode") ? said.mode : options.mode;
  check_once("mode", options.mode == Mode::paper && mode == Mode::corrected);
  check_once("ratio", options.ratio && has("ratio"));
  check_once("ratio_end", options.ratio && options.ratio->last && has("ratio_end"));
  check_once("schedule", options.schedule && (has("skip_step") || has("skip_every")));
  options.mode = mode;
  take(changes, "mode");
  if (is_number(find(changes, "ratio"))) {
    options.ratio = SaidRatio{std::get<Number>(*said.budget.ratio)};
    take(changes, "ratio");
  }
  if (options.ratio && has("ratio_end")) {
    options.ratio->last = said.budget.ratio_end;
    take(changes, "ratio_end");
  }
  if (has("skip_step") && has("skip_every") && said.budget.skip_step != 0 &&
      said.budget.skip_every != 0) {
    options.schedule = Schedule{said.budget.skip_step, said.budget.skip_every};
    take(changes, "skip_step");
    take(changes, "skip_every");
  }
  return options;
}

// What says something of patches that are left out, and else nothing.
std::vector<std::string> idle(const Changes& changes, bool every_step) {
  const Regions defaults;
  std::vector<std::string> out;
  for (const auto& [name, value] : changes) {
    if (!acts(name, every_step) && !same(value, field_of(defaults, name))) out.push_back(name);
  }
  return out;
}

[[noreturn]] void contradict(const std::string& one, const std::string& other,
                             const std::string& why = "") {
  refuse(one + " and " + other + " contradict each other" + why + "; give one of them");
}

// Refuses options that leave each other nothing to say.
void check(const Options& options) {
  const Value* every = find(options.changes, "guidance_every");
  std::vector<std::string> own;
  if (options.ratio) own.emplace_back("ratio");
  if (options.schedule) own.emplace_back("schedule");
  if (find(options.changes, "ratio") != nullptr) own.emplace_back("ratio");
  std::vector<std::string> sparse = idle(options.changes, every == nullptr || same(*every, 1));
  sparse.insert(sparse.begin(), own.begin(), own.end());
  if (options.dense && !sparse.empty()) contradict("dense", sparse.front());
  if (options.dense) own.emplace_back("dense");
  if (options.mode == Mode::paper) own.emplace_back("paper mode");
  if (options.regions && !own.empty()) contradict("ras", own.front(), ": all of ras is taken");
  if (options.shift && options.steps &&
      std::holds_alternative<std::vector<double>>(*options.steps)) {
    contradict("shift", "times", ": times are taken as they are");
  }
  if (options.coarse && options.coarse->factor > 1 && is_paper(options)) {
    contradict("paper mode", "coarse");
  }
  if (is_paper(options) && options.preset) contradict("paper mode", "a preset");
}

// Whether steps and regions are the preset's, so that what was calibrated for them still holds.
bool leaves_the_plan(const Options& options) {
  const bool own = options.dense || options.mode == Mode::paper ||
                   std::any_of(options.changes.begin(), options.changes.end(),
                               [](const auto& c) { return planned().count(c.first) > 0; });
  return !own && !options.steps && !options.shift && !options.solver && !options.regions &&
         !options.ratio && !options.schedule && !options.coarse;
}

bool all_dense(const Preset& how) {
  const PerStep ratios = how.regions.ratios(how.count());
  if (const Number* one = std::get_if<Number>(&ratios)) return *one == 1;
  const auto& each = std::get<std::vector<Number>>(ratios);
  return !each.empty() &&
         std::all_of(each.begin(), each.end(), [](const Number& ratio) { return ratio == 1; });
}

// The preset; refuses it if nothing is left out in it, and options say what to do with that.
Preset used(const Options& options, Preset how) {
  const std::vector<std::string> said = idle(options.changes, how.regions.guidance.every == 1);
  if (!said.empty() && !how.regions.paper() && all_dense(how) &&
      how.regions.budget.skip_every == 0) {
    refuse(said.front() +
           " is of steps that leave patches out, and here all are dense; give a ratio, or another "
           "preset");
  }
  return how;
}

std::optional<Coarse> coarse_of(const Options& options, const Preset& base) {
  if (!options.coarse || options.coarse->factor > 1) {
    return options.coarse ? options.coarse : base.coarse;
  }
  if (base.coarse && !options.steps) {
    refuse("preset " + (options.preset ? quoted(*options.preset) : "None") +
           " has no steps from noise of its own; give steps without coarse");
  }
  return std::nullopt;
}

// How many steps a preset has after a time.
int64_t steps_after(double start, const Preset& base, const Number& shift) {
  if (const int64_t* count = std::get_if<int64_t>(&base.steps)) {
    const double rest = 1 - unshifted(start, checked_shift(shift));
    return std::max<int64_t>(1, rounded(static_cast<double>(*count) * rest));
  }
  const auto& times = std::get<std::vector<double>>(base.steps);
  return std::max<int64_t>(
      1, std::count_if(times.begin(), times.end() - 1, [&](double t) { return t >= start; }));
}

Steps steps_of(const Options& options, const Preset& base, const Number& shift) {
  if (options.steps) {
    checked_count(*options.steps);
    return *options.steps;
  }
  if (options.coarse && !base.coarse) return steps_after(options.coarse->until, base, shift);
  if (options.shift || options.coarse) return base.count();
  return base.steps;
}

// The preset's regions in a run of `count` steps, with another ratio or schedule if there is one.
Regions regions_of(const Options& options, const Preset& base, int64_t count) {
  const bool as_is = count == base.count() || base.regions.paper();
  Regions out = as_is ? base.regions : resized(base.regions, base.count(), count);
  if (options.schedule) {
    std::optional<PerStep>& ratio = out.budget.ratio;
    if (ratio && !std::holds_alternative<Number>(*ratio)) ratio = Number(0.25);
    out.budget.ratio_end.reset();
    out.budget.skip_step = options.schedule->step;
    out.budget.skip_every = options.schedule->every;
  }
  return options.ratio ? with_ratio(out, *options.ratio, count) : out;
}

std::string preset_name(const Options& options) {
  return options.preset && !options.preset->empty() ? *options.preset : kDefaultPreset;
}

}  // namespace

std::optional<std::string> begins_with(const Options& options) {
  const Value* mode = find(options.changes, "mode");
  if (is_paper(options) || (mode != nullptr && same(*mode, std::string("paper")))) {
    return std::nullopt;
  }
  return preset_name(options);
}

Preset resolve(const Options& said, const Presets& presets, const Number& shift) {
  if (said.coarse) flagdit::check(*said.coarse);
  Options options = by_name(said);
  check(options);
  const Preset base = is_paper(options) ? paper_preset() : find(presets, preset_name(options));
  if (options.coarse && options.coarse->factor == 1 && !base.coarse) options.coarse.reset();
  if (leaves_the_plan(options)) {
    Preset out = base;
    for (const auto& [name, value] : options.changes) set_field(out.regions, name, value);
    out.shift = base.shift.value_or(shift);
    return used(options, std::move(out));
  }
  Preset out;
  out.coarse = coarse_of(options, base);
  out.shift = options.shift ? *options.shift : base.shift.value_or(shift);
  out.steps = steps_of(options, base, *out.shift);
  const int64_t count = out.count();
  out.regions = options.regions ? *options.regions
                : options.dense ? dense_regions()
                                : regions_of(options, base, count);
  out.regions = changed(out.regions, options.changes, count);
  out.solver = options.solver.value_or(options.regions ? default_solver(out.regions) : base.solver);
  return used(options, std::move(out));
}

}  // namespace flagdit
