// The camera: which there are, starting one, and what to do when there is none.

const WANTED = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };

const HELP = {
  NotAllowedError:
    "The camera is blocked. Allow it for this page, in the address bar's site settings and in the system's privacy settings.",
  NotFoundError: "There is no camera. Connect one and start again, or choose a picture instead.",
  NotReadableError: "The camera is in use by another program. Close that and start again.",
  OverconstrainedError: "That camera is no longer available. Choose another one.",
};

/** Start a camera; its MediaStream, or an Error that a person can read. */
export async function openCamera(deviceId) {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new Error(
      "Browsers allow the camera only on https and localhost. Open this page that way, or choose a picture instead.",
    );
  }
  const constraints = { audio: false, video: deviceId ? { ...WANTED, deviceId: { exact: deviceId } } : WANTED };
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (error) {
    throw new Error(HELP[error.name] ?? `The camera did not start: ${error.message}`);
  }
}

export function closeCamera(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

/** Fill `select` with the cameras there are; hidden, with its label, where there is no choice. */
export async function listCameras(select, label, stream) {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const cameras = devices.filter((device) => device.kind === "videoinput");
  const current = stream.getVideoTracks()[0]?.getSettings().deviceId;
  select.replaceChildren(
    ...cameras.map((camera, index) => {
      const name = camera.label || `Camera ${index + 1}`;
      return new Option(name, camera.deviceId, false, camera.deviceId === current);
    }),
  );
  select.hidden = label.hidden = cameras.length < 2;
}
