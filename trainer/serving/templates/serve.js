"use strict";
const main = document.querySelector("main");
const list = document.querySelector(".answers");
const heard = document.querySelector(".heard");
const most = Number(main.dataset.bytes);
const below = Number(main.dataset.below);
const explains = main.dataset.explains === "1";
const KEPT = 30; // answers on the page
const TRIES = 5; // of a request that the server has no room for

// ---------------------------------------------------------------------------------------------------------- answers
const share = (value) => {
  const said = (100 * value).toFixed(1);
  if (said === "100.0" && value < 1) return "> 99.9\u00a0%";
  return said === "0.0" && value > 0 ? "< 0.1\u00a0%" : `${said}\u00a0%`;
};
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
const element = (tag, className, words = "") => {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = words;
  return made;
};

const said = (...sentences) => {
  const whole = sentences.filter(Boolean).map((words) => words[0].toUpperCase() + words.slice(1).replace(/\.$/, ""));
  return whole.map((words) => (words.endsWith("?") ? words : `${words}.`)).join(" ");
};

class Wrong extends Error {
  constructor(message, hint = "") {
    super(message);
    this.hint = hint;
  }
}

const asked = async (file) => {
  if (file.size > most) throw new Wrong(`This file has ${(file.size / 1e6).toFixed(1)} MB`, "make it smaller");
  const headers = { "Content-Type": file.type.startsWith("image/") ? file.type : "application/octet-stream" };
  for (let tries = 1; ; tries += 1) {
    let answer;
    try {
      answer = await fetch(`predict?top=5${explains ? "&explain=1" : ""}`, { method: "POST", headers, body: file });
    } catch {
      throw new Wrong("the server does not answer", "is it still running?");
    }
    if (answer.status === 503 && tries < TRIES) {
      await pause(Number(answer.headers.get("Retry-After")) || 1);
      continue;
    }
    const told = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
    if (!answer.ok) throw new Wrong(told.error, told.hint);
    return told.pictures[0];
  }
};

// By value: an object has keys that look like numbers first, in their own order, so "0" before "2".
const ordered = ({ probabilities, likeliest }) =>
  Object.entries(probabilities).sort(([one, p], [other, q]) => q - p || (other === likeliest) - (one === likeliest));

const bars = (told) =>
  ordered(told).map(([name, value]) => {
    const row = document.createElement("tr");
    const head = element("th", "", name);
    head.scope = "row";
    const bar = element("td", "bar");
    const length = document.createElement("span");
    length.style.width = `${100 * value}%`;
    bar.append(length);
    row.append(head, bar, element("td", "share", share(value)));
    return row;
  });

const show = (item, told) => {
  const [likeliest, value] = ordered(told)[0];
  const title = told.sure ? likeliest : "Not sure";
  const why = told.sure
    ? `${share(value)} sure`
    : `The likeliest is ${likeliest} with ${share(value)}; below ${share(below)} it does not answer.`;
  item.classList.remove("waiting");
  item.classList.toggle("unsure", !told.sure);
  item.querySelector(".value").textContent = title;
  item.querySelector(".why").textContent = why;
  item.querySelector("caption").textContent = "Probabilities of the likeliest classes";
  item.querySelector("tbody").replaceChildren(...bars(told));
  if (told.map) {
    const figure = item.querySelector(".map");
    const words = `Where it looked for ${told.map.class} (GradCAM at ${told.map.layer})`;
    figure.querySelector("img").src = told.map.png;
    figure.querySelector("img").alt = words;
    figure.querySelector("figcaption").textContent = words;
    figure.hidden = false;
  }
  heard.textContent = `${title}. ${why}`;
};

const fail = (item, error) => {
  item.classList.remove("waiting");
  item.querySelector(".value").textContent = "No answer";
  item.querySelector(".why").replaceWith(element("p", "warning", said(error.message, error.hint)));
  item.querySelector("table").remove();
  heard.textContent = `No answer. ${said(error.message, error.hint)}`;
};

const ask = async (file) => {
  const item = document.getElementById("answer").content.cloneNode(true).querySelector("li");
  const name = file.name || "picture";
  const image = item.querySelector(".given img");
  const address = URL.createObjectURL(file);
  image.src = address;
  image.alt = name;
  image.addEventListener("load", () => URL.revokeObjectURL(address));
  image.addEventListener("error", () => image.remove()); // a kind of file that the server reads and the browser does not
  item.querySelector("figcaption").textContent = name;
  item.querySelector(".value").textContent = "Looking \u2026";
  item.classList.add("waiting");
  document.getElementById("answers").hidden = false;
  list.prepend(item);
  while (list.children.length > KEPT) list.lastElementChild.remove();
  try {
    show(item, await asked(file));
  } catch (error) {
    fail(item, error);
  }
};

const askAll = async (files) => {
  for (const file of files) await ask(file);
};

// ------------------------------------------------------------------------------------------- dropped, pasted, chosen
const files = document.getElementById("files");
const snapshot = document.getElementById("snapshot");
document.getElementById("choose").addEventListener("click", () => files.click());
for (const input of [files, snapshot]) {
  input.addEventListener("change", () => {
    askAll([...input.files]);
    input.value = "";
  });
}
let depth = 0;
const over = (change) => {
  depth = Math.max(0, depth + change);
  document.body.classList.toggle("over", depth > 0);
};
addEventListener("dragenter", () => over(1));
addEventListener("dragleave", () => over(-1));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  over(-depth);
  askAll([...event.dataTransfer.files]);
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) askAll([...event.clipboardData.files]);
});

// ------------------------------------------------------------------------------------------------------------ camera
const viewfinder = document.querySelector(".viewfinder");
const video = viewfinder.querySelector("video");
const warning = viewfinder.querySelector(".warning");
const take = document.getElementById("take");
const turn = document.getElementById("turn");
let facing = "environment";

const dark = () => {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
};
const look = async () => {
  dark();
  take.disabled = true;
  warning.hidden = true;
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing } });
    await video.play();
    take.disabled = false;
    const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((each) => each.kind === "videoinput");
    turn.hidden = cameras.length < 2;
  } catch (error) {
    warning.textContent =
      error.name === "NotAllowedError"
        ? "The browser does not allow it: let this page use the camera, beside its address."
        : `There is no camera to use (${error.name}).`;
    warning.hidden = false;
  }
};
document.getElementById("camera").addEventListener("click", () => {
  // Over a network without encryption a browser lets no page look; a phone's own camera takes the picture then.
  if (!navigator.mediaDevices) snapshot.click();
  else {
    viewfinder.showModal();
    look();
  }
});
turn.addEventListener("click", () => {
  facing = facing === "user" ? "environment" : "user";
  look();
});
take.addEventListener("click", () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => ask(new File([blob], "camera.png", { type: "image/png" })), "image/png");
  viewfinder.close();
});
document.getElementById("close").addEventListener("click", () => viewfinder.close());
viewfinder.addEventListener("close", dark);

// ------------------------------------------------------------------------------------------------------- from a program
const who = main.dataset.guarded === "1" ? ` -H "Authorization: Bearer $TOKEN"` : "";
document.querySelector("#program code").textContent = [
  `curl${who} --data-binary @picture.jpg -H 'Content-Type: image/jpeg' ${location.origin}/predict`,
  `curl${who} -F picture=@a.jpg -F picture=@b.png '${location.origin}/predict?top=3'`,
  `curl ${location.origin}/health`,
  `curl${who} ${location.origin}/metrics`,
].join("\n");
