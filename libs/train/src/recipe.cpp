// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/recipe.h"

#include <set>

#include "resolved.h"

namespace veomni::train {

namespace {

// What no single field can check.
void check_recipe(const Recipe& recipe) {
  std::set<std::string> names;
  for (const auto& source : recipe.eval.sources) {
    VEOMNI_CHECK_CONFIG(!source.name.empty() && !source.path.empty(), recipe.file,
                        ": each of eval.sources needs a `name` and a `path`");
    VEOMNI_CHECK_CONFIG(names.insert(source.name).second, recipe.file,
                        ": eval.sources has the name '", source.name, "' twice");
  }
  VEOMNI_CHECK_CONFIG(!recipe.output.empty(), recipe.file, ": output is empty; name a directory");
  VEOMNI_CHECK_CONFIG(recipe.train.steps == 0 || !recipe.data.sources.empty(), recipe.file,
                      ": data.sources is empty; name at least one source to train on");
}

}  // namespace

Recipe load_recipe(const std::string& file, const std::vector<Override>& overrides) {
  YAML::Node root = load_yaml_file(file);
  if (!root.IsDefined() || root.IsNull()) root = YAML::Node(YAML::NodeType::Map);
  VEOMNI_CHECK_CONFIG(root.IsMap(), file,
                      ": a recipe is a section of keys and values; see docs/recipe.md");
  for (const auto& change : overrides) set_by_path(root, change.path, change.value);
  Recipe recipe;
  recipe.file = file;
  read_fields({file}, root, recipe);
  check_recipe(recipe);
  return recipe;
}

std::string resolved_recipe(const Recipe& recipe) { return resolved(recipe); }

std::string recipe_reference() {
  Recipe defaults;
  FieldDocs docs;
  visit_fields(docs, defaults);
  std::string out = "| key | default | meaning |\n|---|---|---|\n";
  for (const auto& doc : docs.docs) {
    out += "| `" + doc.path + "` | " + (doc.value.empty() ? "" : "`" + doc.value + "`") + " | " +
           doc.help;
    if (!doc.must_be.empty()) out += " (" + doc.must_be + ")";
    out += " |\n";
  }
  return out;
}

}  // namespace veomni::train
