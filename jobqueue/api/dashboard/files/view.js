// Elements from descriptions, patched in place, so that what is focused, scrolled or typed stays while numbers change.
//
// Text becomes text nodes and nothing else: there is no way from here to markup, whatever a job says.

/** A description of an element. Children may be nested lists; null, undefined and false are left out, all else is text. */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false) };
}

/** Make `place` hold what is described, and nothing else. */
export function render(place, ...nodes) {
  patchChildren(place, h("", null, ...nodes).children);
}

function make(node) {
  if (typeof node !== "object") return document.createTextNode(String(node));
  const element = document.createElement(node.tag);
  element.described = { key: node.props.key, props: {} };
  patch(element, node);
  return element;
}

function fits(dom, node) {
  if (typeof node !== "object") return dom.nodeType === Node.TEXT_NODE;
  return dom.nodeType === Node.ELEMENT_NODE && dom.localName === node.tag && dom.described?.key === node.props.key;
}

function patchChildren(place, nodes) {
  const keyed = new Map();
  for (const dom of place.childNodes) if (dom.described?.key !== undefined) keyed.set(dom.described.key, dom);
  let at = place.firstChild;
  for (const node of nodes) {
    const key = node.props?.key;
    let dom = key === undefined ? at : (keyed.get(key) ?? at);
    if (dom === null || !fits(dom, node)) {
      dom = make(node);
      place.insertBefore(dom, at);
      continue;
    }
    if (dom === at) at = at.nextSibling;
    else place.insertBefore(dom, at);
    if (typeof node !== "object") {
      if (dom.data !== String(node)) dom.data = String(node);
    } else patch(dom, node);
  }
  while (at !== null) {
    const next = at.nextSibling;
    forget(at);
    at.remove();
    at = next;
  }
}

function forget(dom) {
  dom.hooked?.leave();
  for (const child of dom.childNodes) forget(child);
}

function patch(element, node) {
  const before = element.described.props;
  for (const name of Object.keys(before)) if (!(name in node.props)) set(element, name, null);
  for (const [name, value] of Object.entries(node.props)) if (before[name] !== value) set(element, name, value);
  element.described.props = node.props;
  if (node.props.hook === undefined) patchChildren(element, node.children);
  else {
    // What is inside belongs to the hook.
    element.hooked ??= node.props.hook(element);
    element.hooked.show(node.props.data);
  }
  // A select's value means something only once its options are there.
  if (node.tag === "select" && before.value !== node.props.value) element.value = node.props.value;
}

function set(element, name, value) {
  if (name === "key" || name === "hook" || name === "data") return;
  if (name === "value") element.value = value ?? "";
  else if (name === "checked") element.checked = value === true;
  else if (name.startsWith("on") && !(name in element)) {
    // Events that bubble where those of the same kind do not, as focusout, have no such property.
    const before = element.described.props[name];
    if (before) element.removeEventListener(name.slice(2), before);
    if (value) element.addEventListener(name.slice(2), value);
  } else if (name.startsWith("on")) element[name] = value;
  else if (name === "style") for (const [property, given] of Object.entries(value ?? {})) element.style.setProperty(property, given);
  else if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else {
    // Only places of this page, and the API's reference: an address is never taken from a job.
    if (name === "href" && !value.startsWith("#") && value !== "docs") throw new TypeError("addresses begin with #");
    element.setAttribute(name, value === true ? "" : value);
  }
}
