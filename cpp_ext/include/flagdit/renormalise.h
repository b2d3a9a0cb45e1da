// Guidance whose velocity keeps the norm of the conditional one. What the factors are made of is kept
// by slot, so that a step which computes a part of the picture still has the norm of all of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "flagdit/layout.h"
#include "flagdit/tensor.h"

namespace flagdit {

// One factor for a picture, at most 1 (Lumina-Image 2.0's own code, Z-Image's); or one for every
// channel and line of latents (diffusers' pipeline of Lumina-Image 2.0).
enum class Renormalise { none, picture, line };

// By the name that a manifest has. Throws std::invalid_argument for another.
Renormalise renormalise_of(const std::string& name);

// Which values of which tokens share a factor.
struct NormGroups {
  int64_t groups = 1;    // K: of the values of a token, each P / K in a row
  int64_t stride = 1;    // tokens of a line, by their ids
  int64_t lines = 1;     // L: with factors of their own; what is behind the last is of it
  bool at_most = false;  // a factor is at most 1

  static NormGroups of(const Layout& layout, Renormalise how);
};

struct RenormaliseArgs {
  Tensor output;                   // (A, R, P) of a call; f32, on CUDA also f16, bf16. In, out with
                                   // both branches: all rows of a sample become its velocity. In
                                   // with the conditional one alone
  std::optional<Tensor> guided{};  // (A, B, P) in, out: where `output` has one branch
  Tensor guidance;                 // (P,) f32 scale per value
  Tensor token;                    // (N, B) i32 ids of what is in the slots
  Tensor norms;    // (N, B, K, 2) f32 in, out: sums of squares, conditional and guided; the head is
                   // written
  Tensor factors;  // (B, L, K) f32 out: the conditional norm over the guided one; 1 if that is 0
  NormGroups groups;
  int64_t pinned = 0;  // slots 0 .. pinned-1 carry no latent
};

// Velocities of the head times the factors of all slots. Those of the tail keep the factors that
// they were computed with.
void renormalise(const RenormaliseArgs& args, Stream stream);

}  // namespace flagdit
