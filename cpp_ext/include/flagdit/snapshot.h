// A run after one of its steps, kept while it goes on: on a GPU it is copied out on a stream of its
// own, and holds nobody up who does not look at it.
#pragma once

#include <memory>
#include <vector>

#include "flagdit/buffers.h"
#include "flagdit/device.h"

namespace flagdit {

class Snapshot {
 public:
  Snapshot(const Buffers& buffers, std::shared_ptr<const OwnStream> second);

  // Enqueues the copies behind all that is on the stream.
  void take(const Buffers& buffers, double ahead, Stream stream);
  // Lets the stream wait until the last copies are out.
  void hold(Stream stream) const { done_.hold(stream); }
  // Latents (B, C, F, H, W), moved `ahead` in time along the velocities as they were; waits for the
  // step.
  std::vector<float> latents() const;
  const Extent& extent() const { return extent_; }

 private:
  struct Part {
    Tensor copy;                             // on the device
    std::shared_ptr<std::byte> owner, host;  // of the copy; what the host has of it
  };

  Part part_of(const Tensor& tensor) const;

  Extent extent_;
  Device device_;
  double ahead_ = 0.0;
  std::shared_ptr<const OwnStream> second_;
  Event copied_, done_;
  Part token_, latent_, velocity_;
};

// Those of one run; memory of one that nobody has any more serves the next.
class Snapshots {
 public:
  std::shared_ptr<const Snapshot> take(const Buffers& buffers, double ahead, Stream stream);

 private:
  std::shared_ptr<const OwnStream> second_;
  std::vector<std::shared_ptr<Snapshot>> all_;
};

}  // namespace flagdit
