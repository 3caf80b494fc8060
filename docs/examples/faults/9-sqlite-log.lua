-- Is asked of every write. A log that is begun anew has another number; it is kept per place.
local number_at = {}

function decide(request)
    local magic, format, page_size, number = string.unpack(">I4I4I4I4", data(0, 16))
    if magic ~= 0x377f0682 and magic ~= 0x377f0683 then
        return -- no header of a log: it goes on
    end
    if number_at[request.offset] == number then
        return -- that of a log that is known: it is written as it should be
    end
    number_at[request.offset] = number
    log("the header of log " .. number .. " at " .. request.offset .. " is lost")
    return "action=lost"
end
