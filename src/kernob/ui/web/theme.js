// Runs before the first paint, so that nothing flashes: dark or light, by the system or by choice.
window.kernobTheme = () => {
  const chosen = localStorage.getItem("kernob.theme") || "system";
  const dark = chosen === "system" ? matchMedia("(prefers-color-scheme: dark)").matches : chosen === "dark";
  document.documentElement.dataset.theme = dark ? "dark" : "light";
};
window.kernobTheme();
