"use strict";
const byId = (id) => document.getElementById(id);

function make(tag, text, ...children) {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  node.append(...children);
  return node;
}

function resolved(schema, parts, depth) {
  if (!schema || depth > 6) return schema;
  if (schema.$ref) return resolved(parts[schema.$ref.split("/").pop()], parts, depth + 1);
  if (schema.anyOf) return resolved(schema.anyOf.find((one) => one.type !== "null"), parts, depth + 1);
  return schema;
}

function sample(schema, parts, depth = 0) {
  const found = resolved(schema, parts, 0);
  if (!found || depth > 5) return null;
  if (found.enum) return found.enum[0];
  if ("const" in found) return found.const;
  if (found.default !== undefined && found.default !== null) return found.default;
  if (found.type === "object") {
    return Object.fromEntries(Object.entries(found.properties || {}).map(([k, v]) => [k, sample(v, parts, depth + 1)]));
  }
  if (found.type === "array") return [sample(found.items, parts, depth + 1)];
  return { string: "…", integer: 0, number: 0, boolean: false }[found.type] ?? null;
}

function shape(title, content, parts) {
  const media = Object.entries(content || {})[0];
  if (!media) return [];
  const [type, body] = media;
  const nodes = [make("p", `${title}: ${type}`)];
  if (body.schema) nodes.push(make("pre", JSON.stringify(sample(body.schema, parts), null, 2)));
  return nodes;
}

function operation(path, method, about, parts) {
  const head = make("summary", "", make("b", method.toUpperCase()), make("code", path), ` ${about.summary || ""}`);
  const node = make("details", "", head, make("p", about.description));
  const rows = (about.parameters || []).map((one) =>
    make("tr", "", make("td", "", make("code", one.name)), make("td", one.in), make("td", one.description || "")));
  if (rows.length) node.append(make("table", "", ...rows));
  if (about.requestBody) node.append(...shape("Request", about.requestBody.content, parts));
  const good = Object.entries(about.responses || {}).find(([status]) => status.startsWith("2"));
  if (good) node.append(...shape(`Answer ${good[0]}`, good[1].content, parts));
  node.dataset.words = `${method} ${path} ${about.summary} ${about.description}`.toLowerCase();
  return node;
}

function show(made) {
  const parts = made.components.schemas;
  const groups = new Map();
  for (const [path, item] of Object.entries(made.paths)) {
    for (const [method, about] of Object.entries(item)) {
      const tag = (about.tags || ["other"])[0];
      groups.set(tag, [...(groups.get(tag) || []), operation(path, method, about, parts)]);
    }
  }
  const nodes = [...groups].map(([tag, list]) => make("section", "", make("h2", tag), ...list));
  byId("operations").replaceChildren(...nodes);
  byId("find").hidden = false;
}

byId("door").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("/openapi.json", { headers: { Authorization: `Bearer ${byId("token").value}` } });
  const body = await answer.json();
  byId("said").textContent = answer.ok ? "" : body.message;
  if (answer.ok) show(body);
});

byId("find").addEventListener("input", () => {
  const words = byId("find").value.toLowerCase();
  for (const node of document.querySelectorAll("details")) node.hidden = !node.dataset.words.includes(words);
});
