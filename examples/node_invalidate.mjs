// For a Node service that owns vehicles: call `forgetVehicle(id)` after the transaction has committed.
import { createClient } from "redis";

const bus = createClient({ url: process.env.REDIS_URL });
bus.on("error", (error) => console.warn("Redis:", error.message));
await bus.connect();

export async function forgetVehicle(id) {
  return bus.publish("appointment_service:invalidate", `vehicle_${id}`);
}
