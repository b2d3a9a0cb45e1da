#include "flagdit/digest.h"

#include <mutex>
#include <new>

extern "C" {
#include <Sha256.h>
}

namespace flagdit {

struct Sha256::State {
  alignas(64) CSha256 sha;  // as its instructions need it
};

Sha256::Sha256() : state_(new State) {
  // Chooses among its functions by what the CPU has.
  static std::once_flag chosen;
  std::call_once(chosen, Sha256Prepare);
  Sha256_Init(&state_->sha);
}

Sha256::~Sha256() = default;

void Sha256::update(const void* data, size_t size) {
  Sha256_Update(&state_->sha, static_cast<const Byte*>(data), size);
}

std::string Sha256::hex() {
  Byte digest[SHA256_DIGEST_SIZE];
  Sha256_Final(&state_->sha, digest);
  std::string text;
  for (const Byte byte : digest) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

std::string sha256(const void* data, size_t size) {
  Sha256 sha;
  sha.update(data, size);
  return sha.hex();
}

}  // namespace flagdit
