; The installer for Windows. installer/building/windows.py runs it:
;   makensis -DVERSION=0.1.0 -DBUNDLE=build/windows/koc -DOUTPUT=dist/koc-0.1.0-setup.exe -DKILOBYTES=560000 koc.nsi
;
; For one user, without an administrator: everything is below this user's folders and in this user's registry.
;
; koc-...-setup.exe /S               install silently; 0 done, 1 cancelled, 2 refused or failed (nothing was changed)
;     /D=C:\some\folder              where to (the last one, without quotes)
;     /DESKTOP=1                     with an icon on the desktop
;     /ASSOCIATE=0                   without "Open with K.O.C." for Python files
;     /WAIT=90                       how many seconds an engine that runs may take to stop
; uninstall.exe /S                   remove it silently; the person's data stays
;     /DELETEDATA=1                  and delete that too
;     /WAIT=90                       as above

Unicode true
!ifdef QUICK
  SetCompress off
!else
  SetCompressor /SOLID lzma
  SetCompressorDictSize 64
!endif
Target amd64-unicode
RequestExecutionLevel user
ManifestDPIAware true
ManifestLongPathAware true
ManifestSupportedOS all
AllowSkipFiles off
CRCCheck on

!include "MUI2.nsh"
!include "FileFunc.nsh"
!include "LogicLib.nsh"
!include "WinVer.nsh"

!define NAME "K.O.C."
!define FOLDER "KOC"   ; Windows takes a full stop off a folder's end
!define PROGRAM "koc.exe"
!define CLASSES "Software\Classes"
!define PROGID "KOC.Strategy"
!define UNINSTALL "Software\Microsoft\Windows\CurrentVersion\Uninstall\${FOLDER}"
!define APP_PATH "Software\Microsoft\Windows\CurrentVersion\App Paths\${PROGRAM}"
!define REFUSED 2

Name "${NAME} ${VERSION}"
Caption "${NAME} ${VERSION}"
OutFile "${OUTPUT}"
BrandingText "${NAME}, the Killer Operations Core"
InstallDir "$LOCALAPPDATA\Programs\${FOLDER}"
InstallDirRegKey HKCU "${UNINSTALL}" "InstallLocation"
ShowInstDetails nevershow
ShowUninstDetails nevershow

VIProductVersion "${VERSION}.0"
VIAddVersionKey "ProductName" "${NAME}"
VIAddVersionKey "FileDescription" "${NAME} installer"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "ProductVersion" "${VERSION}"
VIAddVersionKey "LegalCopyright" "GPL-3.0-or-later"

!define MUI_ICON "koc.ico"
!define MUI_UNICON "koc.ico"
!define MUI_ABORTWARNING
!define MUI_COMPONENTSPAGE_SMALLDESC
!define MUI_FINISHPAGE_RUN "$INSTDIR\${PROGRAM}"
!define MUI_FINISHPAGE_RUN_TEXT "Start ${NAME}"
!insertmacro MUI_PAGE_LICENSE "${BUNDLE}/_internal/LICENSE"
!insertmacro MUI_PAGE_COMPONENTS
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"

Var Patience   ; seconds
Var DeleteData

; ---- what runs ------------------------------------------------------------------------------------------------------

; Ask what runs from $INSTDIR to stop in order, the engine first. Nothing is killed: what does not end in time ends the
; installation or removal before it has changed anything. Windows lets nobody write to a program that runs.
!macro STOP_PROGRAM un
Function ${un}IsRunning   ; leaves 1 or 0 on the stack
  Push $0
  StrCpy $0 0
  ${If} ${FileExists} "$INSTDIR\${PROGRAM}"
    ClearErrors
    FileOpen $0 "$INSTDIR\${PROGRAM}" a
    ${If} ${Errors}
      StrCpy $0 1
    ${Else}
      FileClose $0
      StrCpy $0 0
    ${EndIf}
  ${EndIf}
  Exch $0
FunctionEnd

Function ${un}StopProgram
  Call ${un}IsRunning
  Pop $0
  ${If} $0 == 0
    Return
  ${EndIf}
  MessageBox MB_OKCANCEL|MB_ICONEXCLAMATION "${NAME} is running. It will be asked to stop in order: open orders are treated as its configuration says, and nothing is lost." /SD IDOK IDOK +3
  SetErrorLevel 1
  Quit
  DetailPrint "Asking the engine to stop"
  nsExec::Exec /TIMEOUT=${TIMEOUT_MS} '"$INSTDIR\${PROGRAM}" stop --timeout $Patience'
  Pop $0
  nsExec::Exec /TIMEOUT=20000 'taskkill /IM ${PROGRAM}'   ; without /F: it asks windows to close, as a click on X does
  Pop $0
  StrCpy $1 0
  ${Do}
    Call ${un}IsRunning
    Pop $0
    ${If} $0 == 0
      Return
    ${EndIf}
    Sleep 1000
    IntOp $1 $1 + 1
  ${LoopUntil} $1 >= $Patience
  MessageBox MB_OK|MB_ICONSTOP "${NAME} is still running. It was not killed, and nothing was changed. Close its window and run 'koc stop', then try again." /SD IDOK
  SetErrorLevel ${REFUSED}
  Quit
FunctionEnd
!macroend

!define TIMEOUT_MS 3600000
!insertmacro STOP_PROGRAM ""
!insertmacro STOP_PROGRAM "un."

; Whoever removes the program removes its folders: they must never have been somebody else's.
Function RefuseForeignFolder
  ${If} ${FileExists} "$INSTDIR\_internal\koc_qt\*.*"
  ${OrIf} ${FileExists} "$INSTDIR\koc-new\*.*"   ; of an installation that was ended half-way
  ${OrIf} ${FileExists} "$INSTDIR\koc-old\*.*"
    Return
  ${EndIf}
  ClearErrors
  FindFirst $0 $1 "$INSTDIR\*.*"
  ${DoUntil} ${Errors}
    ${If} $1 != "."
    ${AndIf} $1 != ".."
      FindClose $0
      MessageBox MB_OK|MB_ICONSTOP "$INSTDIR holds something else ($1). Choose an empty folder: nothing was changed." /SD IDOK
      SetErrorLevel ${REFUSED}
      Quit
    ${EndIf}
    FindNext $0 $1
  ${Loop}
  FindClose $0
  ClearErrors
FunctionEnd

; ---- install --------------------------------------------------------------------------------------------------------

Section "${NAME}" SectionProgram
  SectionIn RO
  Call RefuseForeignFolder
  Call StopProgram
  ; The new files are laid beside the old ones, and take their place when they are whole.
  RMDir /r "$INSTDIR\koc-new"
  RMDir /r "$INSTDIR\koc-old"
  SetOutPath "$INSTDIR\koc-new"
  ClearErrors
  File /r "${BUNDLE}/*"
  ${If} ${Errors}
    Call Undo
  ${EndIf}
  SetOutPath "$INSTDIR"
  CreateDirectory "$INSTDIR\koc-old"
  ClearErrors
  ${If} ${FileExists} "$INSTDIR\${PROGRAM}"
    Rename "$INSTDIR\${PROGRAM}" "$INSTDIR\koc-old\${PROGRAM}"
    Rename "$INSTDIR\_internal" "$INSTDIR\koc-old\_internal"
    ${If} ${Errors}
      Rename "$INSTDIR\koc-old\${PROGRAM}" "$INSTDIR\${PROGRAM}"
      Rename "$INSTDIR\koc-old\_internal" "$INSTDIR\_internal"
      Call Undo
    ${EndIf}
  ${EndIf}
  Delete "$INSTDIR\sbom.cdx.json"
  RMDir /r "$INSTDIR\licences"
  ClearErrors
  Rename "$INSTDIR\koc-new\_internal" "$INSTDIR\_internal"
  Rename "$INSTDIR\koc-new\${PROGRAM}" "$INSTDIR\${PROGRAM}"
  ${If} ${Errors}
    RMDir /r "$INSTDIR\_internal"
    Rename "$INSTDIR\koc-old\_internal" "$INSTDIR\_internal"
    Rename "$INSTDIR\koc-old\${PROGRAM}" "$INSTDIR\${PROGRAM}"
    Call Undo
  ${EndIf}
  Rename "$INSTDIR\koc-new\licences" "$INSTDIR\licences"
  Rename "$INSTDIR\koc-new\sbom.cdx.json" "$INSTDIR\sbom.cdx.json"
  RMDir /r "$INSTDIR\koc-new"
  RMDir /r "$INSTDIR\koc-old"

  WriteUninstaller "$INSTDIR\uninstall.exe"
  CreateShortCut "$SMPROGRAMS\${NAME}.lnk" "$INSTDIR\${PROGRAM}"
  WriteRegStr HKCU "${APP_PATH}" "" "$INSTDIR\${PROGRAM}"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayName" "${NAME}"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayIcon" "$INSTDIR\${PROGRAM}"
  WriteRegStr HKCU "${UNINSTALL}" "Publisher" "${NAME}"
  WriteRegStr HKCU "${UNINSTALL}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL}" "EstimatedSize" ${KILOBYTES}
  WriteRegDWORD HKCU "${UNINSTALL}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL}" "NoRepair" 1
SectionEnd

Section '"Open with ${NAME}" for Python files' SectionOpen
  ; One more way to open them: what opens them by a double click stays as it is.
  WriteRegStr HKCU "${CLASSES}\${PROGID}" "" "Strategy for ${NAME}"
  WriteRegStr HKCU "${CLASSES}\${PROGID}\DefaultIcon" "" "$INSTDIR\${PROGRAM},0"
  WriteRegStr HKCU "${CLASSES}\${PROGID}\shell\open\command" "" '"$INSTDIR\${PROGRAM}" "%1"'
  WriteRegStr HKCU "${CLASSES}\.py\OpenWithProgids" "${PROGID}" ""
  WriteRegStr HKCU "${CLASSES}\Applications\${PROGRAM}" "FriendlyAppName" "${NAME}"
  WriteRegStr HKCU "${CLASSES}\Applications\${PROGRAM}\SupportedTypes" ".py" ""
  WriteRegStr HKCU "${CLASSES}\Applications\${PROGRAM}\shell\open\command" "" '"$INSTDIR\${PROGRAM}" "%1"'
  ${RefreshShellIcons}
SectionEnd

Section /o "Icon on the desktop" SectionDesktop
  CreateShortCut "$DESKTOP\${NAME}.lnk" "$INSTDIR\${PROGRAM}"
SectionEnd

LangString AboutProgram ${LANG_ENGLISH} "The window, the engine and the command line."
LangString AboutOpen ${LANG_ENGLISH} "Adds ${NAME} to the 'Open with' menu of .py files. What opens them now stays as it is."
LangString AboutDesktop ${LANG_ENGLISH} "A shortcut on your desktop."
!insertmacro MUI_FUNCTION_DESCRIPTION_BEGIN
  !insertmacro MUI_DESCRIPTION_TEXT ${SectionProgram} $(AboutProgram)
  !insertmacro MUI_DESCRIPTION_TEXT ${SectionOpen} $(AboutOpen)
  !insertmacro MUI_DESCRIPTION_TEXT ${SectionDesktop} $(AboutDesktop)
!insertmacro MUI_FUNCTION_DESCRIPTION_END

; The old version is as it was: take away what is left of the new one, and say so.
Function Undo
  SetOutPath "$TEMP"
  RMDir /r "$INSTDIR\koc-new"
  RMDir "$INSTDIR\koc-old"
  RMDir "$INSTDIR"
  MessageBox MB_OK|MB_ICONSTOP "${NAME} could not be installed to $INSTDIR: its files could not be written. Is the disk full, or the folder not yours? What was there before is unchanged." /SD IDOK
  SetErrorLevel ${REFUSED}
  Quit
FunctionEnd

Function .onInstFailed
  SetOutPath "$TEMP"
  RMDir /r "$INSTDIR\koc-new"
  RMDir "$INSTDIR"
  SetErrorLevel ${REFUSED}
FunctionEnd

Function .onInit
  ${IfNot} ${AtLeastWin10}
    MessageBox MB_OK|MB_ICONSTOP "${NAME} needs Windows 10 or newer." /SD IDOK
    SetErrorLevel ${REFUSED}
    Quit
  ${EndIf}
  ${GetParameters} $R0
  ClearErrors
  ${GetOptions} $R0 "/WAIT=" $Patience
  ${If} ${Errors}
    StrCpy $Patience 90
  ${EndIf}
  ClearErrors
  ${GetOptions} $R0 "/DESKTOP=" $R1
  ${IfNot} ${Errors}
  ${AndIf} $R1 == 1
    !insertmacro SelectSection ${SectionDesktop}
  ${EndIf}
  ClearErrors
  ${GetOptions} $R0 "/ASSOCIATE=" $R1
  ${IfNot} ${Errors}
  ${AndIf} $R1 == 0
    !insertmacro UnselectSection ${SectionOpen}
  ${EndIf}
FunctionEnd

; ---- remove ---------------------------------------------------------------------------------------------------------

Function un.onInit
  ${GetParameters} $R0
  ClearErrors
  ${GetOptions} $R0 "/WAIT=" $Patience
  ${If} ${Errors}
    StrCpy $Patience 90
  ${EndIf}
  StrCpy $DeleteData 0
  ClearErrors
  ${GetOptions} $R0 "/DELETEDATA=" $R1
  ${IfNot} ${Errors}
    StrCpy $DeleteData $R1
  ${EndIf}
FunctionEnd

Section "Uninstall"
  ${IfNot} ${FileExists} "$INSTDIR\${PROGRAM}"
    MessageBox MB_OK|MB_ICONSTOP "There is no ${NAME} in $INSTDIR: nothing was removed." /SD IDOK
    SetErrorLevel ${REFUSED}
    Quit
  ${EndIf}
  Call un.StopProgram
  ${IfNot} ${Silent}
    MessageBox MB_YESNO|MB_ICONQUESTION|MB_DEFBUTTON2 "Delete your data too: the journal of orders and fills, accounts, configuration, back-tests, logs?$\r$\n$\r$\nKeys in the Windows credential store stay. Without the journal nobody can tell later what was traded." /SD IDNO IDNO +2
    StrCpy $DeleteData 1
  ${EndIf}
  SetOutPath "$TEMP"
  Delete "$INSTDIR\${PROGRAM}"
  RMDir /r "$INSTDIR\_internal"
  RMDir /r "$INSTDIR\licences"
  RMDir /r "$INSTDIR\koc-new"
  RMDir /r "$INSTDIR\koc-old"
  Delete "$INSTDIR\sbom.cdx.json"
  Delete "$INSTDIR\uninstall.exe"
  RMDir "$INSTDIR"   ; not what somebody else has put there
  Delete "$SMPROGRAMS\${NAME}.lnk"
  Delete "$DESKTOP\${NAME}.lnk"
  DeleteRegKey HKCU "${UNINSTALL}"
  DeleteRegKey HKCU "${APP_PATH}"
  DeleteRegKey HKCU "${CLASSES}\${PROGID}"
  DeleteRegKey HKCU "${CLASSES}\Applications\${PROGRAM}"
  DeleteRegValue HKCU "${CLASSES}\.py\OpenWithProgids" "${PROGID}"
  DeleteRegKey /ifempty HKCU "${CLASSES}\.py\OpenWithProgids"
  DeleteRegKey /ifempty HKCU "${CLASSES}\.py"
  ${If} $DeleteData == 1
    RMDir /r "$LOCALAPPDATA\koc"   ; where koc_qt/paths.py keeps a profile
  ${EndIf}
SectionEnd
