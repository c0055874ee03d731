// Loads a SavedModel as TF Serving does and answers requests: no Python in the process.
//
//   loader FOLDER REQUESTS ANSWERS LIBRARIES
//
// REQUESTS and ANSWERS are lines `signature` and after it `count`, and for each tensor its name and a serialized
// TensorProto with its length: text, then bytes. A failed request is answered with count -1 and the message. LIBRARIES
// have operations that TensorFlow does not have itself.
#include <dlfcn.h>

#include <fstream>
#include <iostream>
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

int main(int count, char** arguments) {
  for (int i = 4; i < count; i++) {
    if (!dlopen(arguments[i], RTLD_NOW | RTLD_GLOBAL)) {
      std::cerr << dlerror() << "\n";
      return 3;
    }
  }
  tensorflow::SavedModelBundle bundle;
  auto status = tensorflow::LoadSavedModel({}, {}, arguments[1], {"serve"}, &bundle);
  if (!status.ok()) {
    std::cerr << status.ToString() << "\n";
    return 1;
  }
  std::ifstream in(arguments[2], std::ios::binary);
  std::ofstream out(arguments[3], std::ios::binary);
  std::string name;
  for (int inputs; in >> name >> inputs;) {
    const auto& signature = bundle.GetSignatures().at(name);
    std::vector<std::pair<std::string, tensorflow::Tensor>> feeds;
    for (int i = 0; i < inputs; i++) {
      std::string input;
      in >> input;
      tensorflow::TensorProto proto;
      proto.ParseFromString(ReadBytes(in));
      tensorflow::Tensor tensor;
      if (!tensor.FromProto(proto)) return 2;
      feeds.emplace_back(signature.inputs().at(input).name(), tensor);
    }
    std::vector<std::string> names, fetches;
    for (const auto& output : signature.outputs()) {
      names.push_back(output.first);
      fetches.push_back(output.second.name());
    }
    std::vector<tensorflow::Tensor> results;
    status = bundle.GetSession()->Run(feeds, fetches, {}, &results);
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
