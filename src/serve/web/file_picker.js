// Files from the button, or dropped anywhere on the page: onFiles([File]).

export function pickFiles({ button, input, overlay, onFiles }) {
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    onFiles([...input.files]);
    // So that the same file can be chosen again.
    input.value = "";
  });

  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  // Each element that the pointer passes sends one of each; only their balance says whether it is still here.
  let depth = 0;
  const show = (now) => {
    depth = Math.max(0, now);
    overlay.hidden = depth === 0;
  };
  addEventListener("dragenter", (event) => holdsFiles(event) && show(depth + 1));
  addEventListener("dragleave", (event) => holdsFiles(event) && show(depth - 1));
  addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    show(0);
    onFiles([...event.dataTransfer.files]);
  });
}
