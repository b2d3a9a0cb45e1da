#include "flagdit/snapshot.h"

namespace flagdit {

Snapshot::Snapshot(const Buffers& buffers, std::shared_ptr<const OwnStream> second)
    : extent_(buffers.extent),
      device_(buffers.latent.device),
      second_(std::move(second)),
      copied_(device_),
      done_(device_),
      token_(part_of(buffers.token)),
      latent_(part_of(buffers.latent)),
      velocity_(part_of(buffers.velocity)) {}

Snapshot::Part Snapshot::part_of(const Tensor& tensor) const {
  const int64_t bytes = bytes_of(tensor.dtype, tensor.shape);
  Part part{tensor, allocate(device_, bytes), nullptr};
  part.host = device_ == Device::cpu ? part.owner : pinned(device_, bytes);
  part.copy.data = part.owner.get();
  return part;
}

void Snapshot::take(const Buffers& buffers, double ahead, Stream stream) {
  ahead_ = ahead;
  enqueue_copy(token_.copy, buffers.token, stream);
  enqueue_copy(latent_.copy, buffers.latent, stream);
  enqueue_copy(velocity_.copy, buffers.velocity, stream);
  copied_.record(stream);
  copied_.hold(second_->get());
  for (const Part* part : {&token_, &latent_, &velocity_})
    if (part->host != part->owner) enqueue_read(part->host.get(), part->copy, second_->get());
  done_.record(second_->get());
}

std::vector<float> Snapshot::latents() const {
  done_.wait();
  std::vector<float> out(static_cast<size_t>(extent_.samples * extent_.layout.values()));
  latents_of(extent_, reinterpret_cast<const int32_t*>(token_.host.get()),
             reinterpret_cast<const float*>(latent_.host.get()),
             reinterpret_cast<const float*>(velocity_.host.get()), ahead_, out.data());
  return out;
}

std::shared_ptr<const Snapshot> Snapshots::take(const Buffers& buffers, double ahead,
                                                Stream stream) {
  if (second_ == nullptr) second_ = std::make_shared<const OwnStream>(buffers.latent.device);
  std::shared_ptr<Snapshot> free;
  // Who looked at it has waited for it; who did not may have copies under way, which come first.
  for (const auto& one : all_)
    if (one.use_count() == 1) free = one;
  if (free == nullptr) {
    free = std::make_shared<Snapshot>(buffers, second_);
    all_.push_back(free);
  } else {
    free->hold(stream);
  }
  free->take(buffers, ahead, stream);
  return free;
}

}  // namespace flagdit
