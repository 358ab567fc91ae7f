// element("p", { className: "quiet" }, "text", child): an element with these properties and children.

export function element(name, properties, ...children) {
  const made = document.createElement(name);
  for (const [property, value] of Object.entries(properties)) {
    // Not all browsers know these as properties yet.
    if (property === "role") made.setAttribute("role", value);
    else if (property.startsWith("aria")) made.setAttribute(`aria-${property.slice(4).toLowerCase()}`, value);
    else made[property] = value;
  }
  made.append(...children);
  return made;
}
