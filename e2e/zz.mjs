import { World } from './lib/scenario.js';
import { settings } from './lib/client.js';
const setting = settings.find(s => s.name === process.argv[2]);
const world = await World.create(setting, {flags:['-echo']});
let closes=0, lost=0;
const reasons={};
for (let r=0;r<40;r++){
 const c = world.as('diego', {reconnection:false});
 await c.hello();
 c.socket.on('disconnect', (x,d) => {closes++; const k=x+' '+(c.socket.io.engine?.transport?.name)+' '+(d?.description??''); reasons[k]=(reasons[k]??0)+1});
 await Promise.race([new Promise(res=>c.socket.once('disconnect',res)), Promise.all(Array.from({length:60},async (_, i)=>{await new Promise(r=>setTimeout(r,i)); await new Promise(res=>c.socket.emit('conformance:echo',i,Buffer.alloc(i*10),res))}))]);
 c.socket.removeAllListeners('disconnect');
 c.close();
}
console.log(process.env.E2E_DISPATCH, setting.name, 'closed', closes, 'of 40', JSON.stringify(reasons));
await world.close(); process.exit();
