// A run that begins with a smaller picture: its noise, and what it goes on from at the full size.
#pragma once

#include <cstdint>
#include <vector>

#include "flagdit/layout.h"

namespace flagdit {

// Images (planes, height, width) at `factor` times their height and width, by Catmull-Rom's cubics
// (Keys 1981, a = -1/2). Weights beyond the border are left out and the others scaled to sum to 1.
// Sums are made in one order, so an image of a batch is the one that would be made alone.
std::vector<float> upsample(const std::vector<float>& images, int64_t planes, int64_t height,
                            int64_t width, int64_t factor);

// Standard normal noise of the smaller picture: block means of noise (planes, height, width), times
// the factor; summed in one order.
std::vector<float> coarse_noise(const std::vector<float>& noise, int64_t planes, int64_t height,
                                int64_t width, int64_t factor);

}  // namespace flagdit
