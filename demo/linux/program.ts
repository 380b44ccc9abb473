// The guest's program, from guest/channels.c: compiled by gcc where there is one, else as it was compiled before.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { gunzipSync } from 'node:zlib';

const SOURCE = 'demo/linux/guest/channels.c';
const FLAGS =
  '-m32 -Os -static -nostdlib -ffreestanding -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables -Wl,--build-id=none -s';

/** An ELF file for Linux on i386. */
export function channelsProgram(): Uint8Array {
  return compile('build/linux-guest/channels') ?? gunzipSync(Buffer.from(COMPILED.join(''), 'base64'));
}

/** Null without a compiler that can make 32-bit programs. */
export function compile(output: string): Uint8Array | null {
  try {
    mkdirSync(dirname(output), { recursive: true });
    execFileSync('gcc', [...FLAGS.split(' '), '-o', output, SOURCE], { stdio: 'ignore' });
    return readFileSync(output);
  } catch {
    return null;
  }
}

/** gcc 12.2's output for SOURCE, gzip, base64. */
const COMPILED: readonly string[] = [
  'H4sIAAAAAAACA+1aX0xb1xk/BkMc4tXOkk5Nlq23m6YWTYVcFrUBZRIN3CDWAE6MSTNkkIEbbBVsaq5J9pDUlYPUkytXVdX2IdpD0+6h2lun/rlx',
  'qsgBZkMUNodFrVfQhDSinsx5IA2rwUnjfd+59ybp2pc97eV+0rnn3O98/37f+e6x79V5WTp4wGazEZMqSCXhd6/bHXug057Q+XuIQKrIU6Qarvel',
  '43YHtmswxGZHnpvo827dBraXNhGCrerheQHaOzAPbRgY2B7Wj8Ml/oHdgQ3Z3TBZbcwfuq4Mke+hasOtRRZZZJFFFllkkUUWWWSRRRZZ9G2iy4mV',
  '1cRNp4ftgjdsOiWm4/sqiFLZXChO++j1HvqZl06L6TPOyjPbq0/PKVXNe68qt8T03qu9fa43034QukSvey/gO/th9mm5XKZTGr7Iz8eP9vJZMQ3z',
  'ros7kt5cvLT5eM2LuZrnkq07c4UCzmubQVNcME0kO9YSN93zcVVav8AqcSbUsda830USM+7i7V6/bVZ32HOxBqS9SX8RxDNSkdBZceH54teJqd2v',
  'bqOX6aUEuCrQPPNDRKDb2+fX4WQ0/OLgpX9jLRjrKtsHnbYFeKwBGflinp1F1g5kPQ4jcUHDyOg0vTofN+yA/qHJhd9Vsfe5zm8RyfkKYiL5Oeh6',
  'tCqeBUjHj9FUBiTfy31kd+jCdslOQDTpA7zbqbSm/gTntGdMnV+hzhs8+O2okMKc0utHaFZM9yRjK156K3FzF5VWDMVKU7EJFY+CoupbaSwpzuIX',
  '2vPIunevXOZGdAV6i+a4fBAna7mjXb19/Rgbwk01cH+QMEgyFIj7HGplpTWeC2lVe587nEyf2gRJ/HaWj/RAfjC6jmX1pANiZI+Cc5pRYTT/DSaM',
  'PQsMLYquPwWGKi2zXyDnOHL+CJzJRaWGrooLtevF25D5PKu+xyPky4Jh3jgNUtyXKjlUn1uNOWnWNtX4uVL5h8IGxwGTYrmH/sXLE7VEc9S3zHaC',
  'WjOENDmnbKazbAuGk+VLdeENMG0sIs/MGQzGBX7FuWzVzAd2h14GKpj6wSzcvpeGC2BKbt9EH70C41dK+AlrAlP+LuqqYNxzHqXKsZVybDmYgyFr',
  'w7WRVhIzziNVyOjxsD3AOocWkh638fCA/w/Bhvg1S36DNQjZ1Z2kXCCQfA2t8kWv/YoLz6LDARC1ZRL3XBN/N801fhadFxcycfRENPxChmUsphO/',
  'Rgtu11vppLzWa+TLq/ocaoeb5mxXG2eVzWf8zuZXXygXbtNcr7mwiZv71JhDrU6sV7omP8Zy6nOk/gHOYY2u3IGFS7tOvwNJVA84L2IxsxIwqTTD',
  'lu7i43a+Auo+6VvKSkurL5u1yAH8EwGcAyFj6rxNcqAklZZp1qjZVS75b8zLIouhQSnNDgJo9iF6yTT6Z5Qf0vUW9vu7mOM0+zP0hRtqxwzscFr1',
  'OUg2vXwjj4uN65xYt7smj2KwpxyprTBL15nDwDBFOAa1z832Ggh23uWlWwu3EBdHYsQlLT14cBHHBdyc2LU7eoCPQZ+RviRqLJ3s+JJmsa7bi7dx',
  'q9pKv6IZvlWl2sC/tgX1WrD+0zEnbDw/AiZrBX1xEbFtA0wtbPWODu4T6AsMkAE+7UmQPEIvs5N3URiq5QZ+QU016KgaSjqqVpuO6pSbDZR4YUv5',
  '+GqpAuDRjmscKaT/WVAS52ArO7mclVYOwF0ytkR9aXXX24A/v1EuH/YkX8Evs14PO6FnZWoDd5w0OLZd2p8oVcauZLgESeFVnNMw4SyIwlMA7pGk',
  '/5r2rlGNBVXjT8ZfwQY87OssgwP/Mi8ByJC09N+7Iy+BMouWUIH9BsJmf9rgFXByRtlK823sbImHNQNd4V9GAXQbBfA57kb5VD/c8jpg2zYwPcoh',
  'tcdpRnoRF29aj2vHhvl74ELBxcLPUoN6Xr9Y54qPqZ1u0NWX77ReQW9Ouz5eNH87AKT5mFl/OSyyyCKLLLLIov8zDQYD4bA8Mt4kEOFYIDQiDwnH',
  'Q0pQIDUkMiaHQ+FhoX5Inqg/IYfr5QllMBgmnV3d7QeOkqgcGMLpQFiQJ+SwQsyBEDkGzIgSlKPCWCSqNAkhhcTCo4HxF0Ge4DQRYuP9Y3K0PxqJ',
  'hYeUaGhM+K47aAOxcRIQFPmEIijBgCKMRMLDTeR4NKSgpBIRXpDDXiUSle9HcywaGX3AHYlExsj+9s7Wfl/n/i4f9J6uw906p72zWzrc2tXxXHsn',
  'OdjV5Xm6tatTEsgYuHjgIShzCMTT1dlmCiCI+pHIYGCkfigyGgiF60n9UEAJ1Bu5JJ72+8LDskLGYgppa2lpEp5qlQdCkCWxoa6hbvfT4p5fDskD',
  'YkNMrDVYhNSNB8eVqBIYIHWImtRFI2ia1A2Mj5O6wcjoKGb6fyD8S4p/QfnZCTyP4dbPYphknuXYaozxtZ+fyxD0MxkPy2HbAQ0PZOCrJz+f8YR+',
  'NsMkweh/asjvNu6HQe5J8l17NsOWSa99jxzSfwCulxamqCIAAA==',
];
