// What libsndfile cannot read among good Ogg Opus files, found out before it is asked to.
//
//   if (HasUnevenOggOpusPages(fd)) ... leave it to ffmpeg ...
//
// Every page says in its granule position how many samples of 48 kHz have been played at its end. Programs that copy
// there the time stamps of their source (ffmpeg does, from a source that was cut or rounded to milliseconds) write
// positions some milliseconds before or behind what the packets hold; gaps left by discontinuous transmission (DTX)
// put them seconds ahead. The packets are whole and ffmpeg plays them all. libsndfile 1.2.0 drops a packet wherever a
// position falls behind, calls the file malformed, and counts a length in which the gaps are audio.
#pragma once

namespace earshot {

// Whether some page's granule position differs from the sum of the packet durations up to it; on the last page only
// one beyond that sum counts, since one before it cuts padding off (RFC 7845, section 4). False for all that is
// not Ogg Opus, and for a stream that lacks a page, its last one say: that is damage, which libsndfile reports and
// ffmpeg does not. fd: a regular file; its position stays. Reads all of it, at a page's memory.
bool HasUnevenOggOpusPages(int fd);

}  // namespace earshot
