// Loads a SavedModel as TF Serving does and answers requests: no Python in the process.
//
//   loader FOLDER REQUESTS ANSWERS LIBRARIES
//
// REQUESTS and ANSWERS are lines `signature` and after it `count`, and for each tensor its name and a serialized
// TensorProto with its length: text, then bytes. A failed request is answered with count -1 and the message. LIBRARIES
// have operations that TensorFlow does not have itself. Standard output has lines `load` or `signature`, the seconds that
// it took, and the seconds of processors.
#include <dlfcn.h>
#include <time.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/tensor.pb.h"

std::string ReadBytes(std::istream& in) {
  size_t size;
  in >> size;
  in.get();
  std::string bytes(size, '\0');
  in.read(&bytes[0], size);
  return bytes;
}

// Says how long something took, from when this was made.
class Timer {
 public:
  explicit Timer(const std::string& name) : name_(name), cpu_(Cpu()), began_(std::chrono::steady_clock::now()) {}
  ~Timer() {
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - began_;
    std::cout << name_ << " " << took.count() << " " << Cpu() - cpu_ << "\n";
  }

 private:
  static double Cpu() {
    timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec + 1e-9 * time.tv_nsec;
  }
  std::string name_;
  double cpu_;
  std::chrono::steady_clock::time_point began_;
};

int main(int count, char** arguments) {
  for (int i = 4; i < count; i++) {
    if (!dlopen(arguments[i], RTLD_NOW | RTLD_GLOBAL)) {
      std::cerr << dlerror() << "\n";
      return 3;
    }
  }
  tensorflow::SavedModelBundle bundle;
  absl::Status status;
  {
    Timer timer("load");
    status = tensorflow::LoadSavedModel({}, {}, arguments[1], {"serve"}, &bundle);
  }
  if (!status.ok()) {
    std::cerr << status.ToString() << "\n";
    return 1;
  }
  std::ifstream in(arguments[2], std::ios::binary);
  std::ofstream out(arguments[3], std::ios::binary);
  std::string name;
  for (int inputs; in >> name >> inputs;) {
    const auto& signature = bundle.GetSignatures().at(name);
    std::map<std::string, tensorflow::TensorProto> given;
    for (int i = 0; i < inputs; i++) {
      std::string input;
      in >> input;
      given[input].ParseFromString(ReadBytes(in));
    }
    std::vector<std::pair<std::string, tensorflow::Tensor>> feeds;
    std::string missing;
    // As tensorflow::saved_model::GetInputValues, which TF Serving calls and no installed library has.
    for (const auto& input : signature.inputs()) {
      const auto found = given.find(input.first);
      const auto preset = signature.defaults().find(input.first);
      tensorflow::Tensor tensor;
      if (found == given.end() && preset == signature.defaults().end()) {
        missing += " " + input.first;
      } else if (!tensor.FromProto(found == given.end() ? preset->second : found->second)) {
        return 2;
      }
      feeds.emplace_back(input.second.name(), tensor);
    }
    if (!missing.empty()) {
      missing = "missing:" + missing;
      out << name << " -1\nmessage " << missing.size() << "\n" << missing << "\n";
      continue;
    }
    std::vector<std::string> names, fetches;
    for (const auto& output : signature.outputs()) {
      names.push_back(output.first);
      fetches.push_back(output.second.name());
    }
    std::vector<tensorflow::Tensor> results;
    {
      Timer timer(name);
      status = bundle.GetSession()->Run(feeds, fetches, {}, &results);
    }
    if (!status.ok()) {
      std::string message(status.message());
      out << name << " -1\nmessage " << message.size() << "\n" << message << "\n";
      continue;
    }
    out << name << " " << results.size() << "\n";
    for (size_t i = 0; i < results.size(); i++) {
      tensorflow::TensorProto proto;
      results[i].AsProtoField(&proto);
      std::string bytes = proto.SerializeAsString();
      out << names[i] << " " << bytes.size() << "\n" << bytes << "\n";
    }
  }
}
