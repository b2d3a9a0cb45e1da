// A library that keeps TensorRT's rules, and breaks off where the real one would do what nobody
// checked. A plan is text: "fake" and a version, then a port a line, "in tokens f32 -1 2 8", its
// profiles "profile tokens 1 2 8 64 2 8". Every value of an output becomes the number of its call.
#include <NvInferRuntime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace nvinfer1;

ILogger* logger = nullptr;
int runtimes = 0, engines = 0, contexts = 0;

bool no(const std::string& why) {
  if (logger != nullptr) logger->log(ILogger::Severity::kERROR, ("fake: " + why).c_str());
  return false;
}

// What is undefined with the real library.
void must(bool holds, const char* rule) {
  if (holds) return;
  std::fprintf(stderr, "fake TensorRT: %s\n", rule);
  std::abort();
}

struct Range {
  Dims least{}, most{};
};

struct Tensor {
  std::string name;
  bool output = false;
  DataType type = DataType::kFLOAT;
  Dims dims{};
  std::vector<Range> profiles;
};

int64_t bytes_of(const Tensor& tensor, const Dims& dims) {
  int64_t out = tensor.type == DataType::kFLOAT || tensor.type == DataType::kINT32 ? 4 : 2;
  for (int n = 0; n < dims.nbDims; ++n) out *= dims.d[n];
  return out;
}

class Context : public IExecutionContext {
 public:
  explicit Context(const std::vector<Tensor>& tensors, bool managed)
      : tensors_(tensors), managed_(managed) {
    ++contexts;
  }
  ~Context() noexcept override {
    must(engines > 0, "an engine must outlive its contexts");
    --contexts;
  }

  bool setOptimizationProfileAsync(int32_t profile, cudaStream_t) noexcept override {
    if (profile < 0 || profile >= static_cast<int32_t>(tensors_.front().profiles.size()))
      return no("no such profile");
    profile_ = profile;
    change();
    return true;
  }

  bool setInputShape(char const* name, Dims const& dims) noexcept override {
    const Tensor* tensor = find(name);
    if (tensor == nullptr || tensor->output) return no("no such input");
    if (profile_ < 0) return no("no profile is chosen");
    const Range& range = tensor->profiles[static_cast<size_t>(profile_)];
    bool inside = dims.nbDims == tensor->dims.nbDims;
    for (int n = 0; inside && n < dims.nbDims; ++n)
      inside = dims.d[n] >= range.least.d[n] && dims.d[n] <= range.most.d[n];
    if (!inside) return no(std::string(name) + " is outside of the profile");
    shapes_[name] = dims;
    change();
    return true;
  }

  Dims getTensorShape(char const* name) const noexcept override {
    const auto shape = shapes_.find(name);
    if (shape != shapes_.end()) return shape->second;
    const Tensor* tensor = find(name);
    if (tensor == nullptr || !inferred_) return {-1, {}};
    Dims dims = tensor->dims;  // the first axis that is open is that of the first input
    if (dims.d[0] < 0) dims.d[0] = shapes_.at(tensors_.front().name).d[0];
    return dims;
  }

  bool setTensorAddress(char const* name, void* data) noexcept override {
    if (find(name) == nullptr) return no("no such tensor");
    if (data == nullptr || reinterpret_cast<uintptr_t>(data) % 256 != 0)
      return no(std::string(name) + " is not aligned to 256 bytes");
    addresses_[name] = data;
    has_run_ = false;
    return true;
  }

  int32_t inferShapes(int32_t count, char const** names) noexcept override {
    int32_t missing = 0;
    for (const Tensor& tensor : tensors_) {
      if (tensor.output || shapes_.count(tensor.name) != 0) continue;
      if (missing < count) names[missing] = tensor.name.c_str();
      ++missing;
    }
    inferred_ = missing == 0;
    return missing;
  }

  size_t updateDeviceMemorySizeForShapes() noexcept override {
    if (!inferred_) return 0;
    needed_ = 0;
    for (const auto& [name, dims] : shapes_) needed_ += 16 * bytes_of(*find(name), dims);
    return static_cast<size_t>(needed_);
  }

  void setDeviceMemoryV2(void* memory, int64_t size) noexcept override {
    must(managed_, "memory is given to a context that has its own");
    must(reinterpret_cast<uintptr_t>(memory) % 256 == 0, "memory of a context must be aligned");
    memory_ = memory;
    size_ = size;
  }

  bool enqueueV3(cudaStream_t stream) noexcept override {
    if (!inferred_) return no("shapes are not inferred");
    for (const Tensor& tensor : tensors_)
      if (addresses_.count(tensor.name) == 0) return no(tensor.name + " has no address");
    if (stream == nullptr) return no("the default stream would be synchronised");
    must(!managed_ || needed_ >= 0,
         "the size of the memory was not asked for since the last shape");
    if (managed_ && (memory_ == nullptr || size_ < needed_)) return no("too little memory");
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaStreamIsCapturing(stream, &status);
    if (status != cudaStreamCaptureStatusNone && !has_run_)
      return no("a capture before a run outside of one");
    has_run_ = true;
    if (managed_) cudaMemsetAsync(memory_, 0x5a, static_cast<size_t>(needed_), stream);
    for (const Tensor& tensor : tensors_) {
      if (!tensor.output) continue;
      const auto bytes = static_cast<size_t>(bytes_of(tensor, getTensorShape(tensor.name.c_str())));
      cudaMemsetAsync(addresses_.at(tensor.name), 1, bytes, stream);
    }
    return true;
  }

 private:
  const Tensor* find(const std::string& name) const {
    for (const Tensor& tensor : tensors_)
      if (tensor.name == name) return &tensor;
    return nullptr;
  }
  void change() {
    inferred_ = has_run_ = false;
    needed_ = -1;
  }

  const std::vector<Tensor>& tensors_;  // the engine's
  bool managed_;
  int32_t profile_ = -1;
  std::map<std::string, Dims> shapes_;
  std::map<std::string, void*> addresses_;
  bool inferred_ = false, has_run_ = false;
  void* memory_ = nullptr;
  int64_t size_ = 0, needed_ = -1;
};

class Engine : public ICudaEngine {
 public:
  explicit Engine(std::vector<Tensor> tensors) : tensors_(std::move(tensors)) { ++engines; }
  ~Engine() noexcept override {
    must(contexts == 0, "an engine must outlive its contexts");
    must(runtimes > 0, "a runtime must outlive its engines");
    --engines;
  }

  int32_t getNbIOTensors() const noexcept override { return static_cast<int32_t>(tensors_.size()); }
  char const* getIOTensorName(int32_t n) const noexcept override {
    return tensors_[static_cast<size_t>(n)].name.c_str();
  }
  TensorIOMode getTensorIOMode(char const* name) const noexcept override {
    return at(name).output ? TensorIOMode::kOUTPUT : TensorIOMode::kINPUT;
  }
  DataType getTensorDataType(char const* name) const noexcept override { return at(name).type; }
  Dims getTensorShape(char const* name) const noexcept override { return at(name).dims; }
  int32_t getNbOptimizationProfiles() const noexcept override {
    return static_cast<int32_t>(tensors_.front().profiles.size());
  }
  Dims getProfileShape(char const* name, int32_t profile,
                       OptProfileSelector which) const noexcept override {
    const Range& range = at(name).profiles[static_cast<size_t>(profile)];
    return which == OptProfileSelector::kMIN ? range.least : range.most;
  }
  IExecutionContext* createExecutionContext(
      ExecutionContextAllocationStrategy strategy) noexcept override {
    return new Context(tensors_, strategy == ExecutionContextAllocationStrategy::kUSER_MANAGED);
  }

 private:
  const Tensor& at(const std::string& name) const {
    for (const Tensor& tensor : tensors_)
      if (tensor.name == name) return tensor;
    must(false, "no such tensor");
    std::abort();
  }

  std::vector<Tensor> tensors_;
};

Dims read_dims(std::istringstream& words, int rank) {
  Dims dims{};
  for (dims.nbDims = 0; dims.nbDims < rank && words >> dims.d[dims.nbDims]; ++dims.nbDims) {
  }
  return dims;
}

class Runtime : public IRuntime {
 public:
  Runtime() { ++runtimes; }
  ~Runtime() noexcept override {
    must(engines == 0, "a runtime must outlive its engines");
    --runtimes;
  }

  ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept override {
    std::istringstream lines(std::string(static_cast<const char*>(blob), size));
    std::string line, kind, name, type;
    if (!std::getline(lines, line) || line != "fake 10") {
      no("the plan is of another version\nor of another GPU");
      return nullptr;
    }
    std::vector<Tensor> tensors;
    while (std::getline(lines, line)) {
      std::istringstream words(line);
      words >> kind >> name;
      if (kind == "profile") {
        for (Tensor& tensor : tensors)
          if (tensor.name == name) {
            const Dims least = read_dims(words, tensor.dims.nbDims);
            tensor.profiles.push_back({least, read_dims(words, tensor.dims.nbDims)});
          }
        continue;
      }
      words >> type;
      tensors.push_back({name,
                         kind == "out",
                         type == "f32"   ? DataType::kFLOAT
                         : type == "f16" ? DataType::kHALF
                                         : DataType::kBF16,
                         read_dims(words, Dims::MAX_DIMS),
                         {}});
    }
    return new Engine(std::move(tensors));
  }
};

}  // namespace

extern "C" void* createInferRuntime_INTERNAL(void* log, int32_t version) noexcept {
  must(version == NV_TENSORRT_VERSION, "headers of another version");
  logger = static_cast<ILogger*>(log);
  return static_cast<IRuntime*>(new Runtime);
}

extern "C" int32_t getInferLibVersion() noexcept {
  const char* said = std::getenv("FAKE_TENSORRT_VERSION");
  return said == nullptr ? 101602 : std::atoi(said);
}
