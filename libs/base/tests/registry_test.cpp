// SPDX-License-Identifier: Apache-2.0
#include "veomni/base/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace veomni {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StrEq;
using testing::ThrowsMessage;

struct Shape {
  explicit Shape(int corners) : corners(corners) {}
  int corners;
};

Registry<Shape, int> shapes() {
  Registry<Shape, int> registry("shape");
  registry.add("star", [](int points) { return std::make_unique<Shape>(2 * points); });
  registry.add("polygon", [](int points) { return std::make_unique<Shape>(points); });
  return registry;
}

TEST(Registry, MakesByNameWithTheArguments) {
  const auto registry = shapes();
  EXPECT_EQ(registry.make("star", 5)->corners, 10);
  EXPECT_EQ(registry.make("polygon", 5)->corners, 5);
  EXPECT_TRUE(registry.has("star"));
  EXPECT_FALSE(registry.has("circle"));
  EXPECT_THAT(registry.names(), ElementsAre("polygon", "star"));
}

TEST(Registry, AnUnknownNameListsTheKnown) {
  const auto registry = shapes();
  EXPECT_THAT([&] { registry.make("polygo", 3); },
              ThrowsMessage<ConfigError>(
                  StrEq("unknown shape 'polygo'; did you mean 'polygon'? (known: polygon, star)")));
}

TEST(Registry, ANameTwiceIsAnError) {
  auto registry = shapes();
  EXPECT_THAT([&] { registry.add("star", nullptr); },
              ThrowsMessage<Error>(HasSubstr("shape 'star' is registered twice")));
}

}  // namespace
}  // namespace veomni
